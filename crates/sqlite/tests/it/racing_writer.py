"""Commits transactions to a database that others write too, and notes durably which of them it was told are committed.

usage: racing_writer.py {sqlite3|apsw} DATABASE LOG NAME COUNT
"""

import os
import random
import sys

module, path, log, name, count = sys.argv[1:]
chance = random.Random(f"{name} {count}")

if module == "apsw":
    import apsw

    connection = apsw.Connection(path)
    connection.set_busy_timeout(60_000)
    version, Busy = apsw.sqlite_lib_version(), (apsw.BusyError, apsw.LockedError)
else:
    import sqlite3

    # Without an isolation level the module begins and ends no transaction by itself.
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    version, Busy = sqlite3.sqlite_version, (sqlite3.OperationalError,)


def run(sql, *values):
    """All rows of one statement."""
    return list(connection.cursor().execute(sql, values))


def until_free(sql):
    """Runs a statement again as long as another writer is in its way."""
    while True:
        try:
            return run(sql)
        except Busy as busy:
            if "lock" not in str(busy).lower() and "busy" not in str(busy).lower():
                raise


def step(number):
    """One change of some rows."""
    kind = chance.randrange(10)
    row = chance.randrange(400)
    if kind < 4:
        body = bytes([number % 256]) * chance.choice([10, 300, 9_000])
        run("INSERT INTO t(who, n, body) VALUES(?, ?, ?)", name, number, body)
    elif kind < 6:
        run("UPDATE t SET n = ?, body = body || x'00' WHERE id % 400 = ?", number, row)
    elif kind < 7:
        run("DELETE FROM t WHERE id % 400 = ?", row)
    elif kind < 9:
        run("INSERT OR REPLACE INTO w VALUES(?, ?, ?)", row % 20, name, chance.choice(["short", "long" * 900]))
    else:
        run(f"CREATE TABLE IF NOT EXISTS extra_{name}(a)")
        run(f"INSERT INTO extra_{name} VALUES(?)", number)
        if chance.randrange(3) == 0:
            run(f"DROP TABLE extra_{name}")


until_free("PRAGMA synchronous = NORMAL")
until_free("PRAGMA wal_autocheckpoint = 40")
until_free("PRAGMA cache_size = 20")
print(version, flush=True)
told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number in range(int(count)):
    until_free("BEGIN IMMEDIATE")
    for _ in range(chance.randrange(1, 6)):
        step(number)
    if chance.randrange(8) == 0:
        run("SAVEPOINT s")
        run("UPDATE t SET body = zeroblob(2000)")
        run("ROLLBACK TO s")
    run("INSERT INTO done VALUES(?, ?)", name, number)
    if chance.randrange(10) == 0:
        until_free("ROLLBACK")
        continue
    until_free("COMMIT")
    os.write(told, f"{number}\n".encode())
    os.fsync(told)
