"""Writes all the time as an application might: transactions of one to many rows, some taken back, checkpoints in every mode by a second
connection. Notes each number after its commit returned.

Between transactions it listens: `pause` is answered by `paused`, and the next line goes on. Ends with its input.

usage: writer.py DATABASE ACKNOWLEDGED FIRST
"""

import os
import random
import select
import sqlite3
import sys

path, acknowledged, first = sys.argv[1:]
chance = random.Random(first)
# Without an isolation level the module begins and ends no transaction by itself.
sqlite = sqlite3.connect(path, timeout=60, isolation_level=None)
# So small that large transactions come into the WAL before they are committed.
sqlite.execute("PRAGMA cache_size = 20")
sqlite.execute("PRAGMA wal_autocheckpoint = 200")
other = sqlite3.connect(path, timeout=0.02, isolation_level=None)
told = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
print("writing", flush=True)
number = int(first)
while True:
    # Waits a little each time, so that the database stays small however long this goes on.
    if select.select([sys.stdin], [], [], chance.random() * 0.003)[0]:
        line = sys.stdin.readline()
        if line == "pause\n":
            print("paused", flush=True)
            line = sys.stdin.readline()
        if not line:
            break
    sqlite.execute("BEGIN IMMEDIATE")
    sqlite.execute("INSERT INTO event VALUES (?, ?)", (number, os.urandom(chance.choice([0, 20, 300, 6000]))))
    sqlite.execute("UPDATE account SET cents = cents + 1, note = ? WHERE id = ?", ("x" * (number % 90), number % 50))
    if chance.randrange(8) == 0:
        for row in range(chance.randrange(10, 120)):
            sqlite.execute("INSERT INTO event VALUES (NULL, ?)", (os.urandom(900),))
    if chance.randrange(16) == 0:
        sqlite.execute("DELETE FROM event WHERE number IS NULL")
        sqlite.execute("DELETE FROM event WHERE number < ?", (number - 4000,))
    if chance.randrange(60) == 0:
        sqlite.execute("CREATE TABLE IF NOT EXISTS extra_%d (a UNIQUE, b DEFAULT 7)" % (number % 5))
        sqlite.execute("INSERT OR IGNORE INTO extra_%d (a) VALUES (?)" % (number % 5), (number,))
    if chance.randrange(60) == 0:
        sqlite.execute("DROP TABLE IF EXISTS extra_%d" % (number % 5))
    if chance.randrange(12) == 0:
        sqlite.execute("ROLLBACK")
        continue
    sqlite.execute("COMMIT")
    os.write(told, b"%d\n" % number)
    number += 1
    if chance.randrange(25) == 0:
        try:
            other.execute("PRAGMA wal_checkpoint(%s)" % chance.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])).fetchall()
        except sqlite3.OperationalError as error:
            if "lock" not in str(error):
                raise
