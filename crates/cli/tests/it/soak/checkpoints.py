"""Checkpoints a database now and then, in every mode in turn, as an application might by another connection.

usage: checkpoints.py {sqlite3|apsw} DATABASE; ends when its standard input does, and prints how many were complete.
"""

import itertools
import select
import sys

module, path = sys.argv[1:]
if module == "apsw":
    import apsw

    sqlite = apsw.Connection(path)
else:
    import sqlite3

    sqlite = sqlite3.connect(path, isolation_level=None)

cursor = sqlite.cursor()
cursor.execute("PRAGMA busy_timeout = 5")
complete = 0
for mode in itertools.cycle(["PASSIVE", "FULL", "RESTART", "TRUNCATE"]):
    try:
        busy = list(cursor.execute(f"PRAGMA wal_checkpoint({mode})"))[0][0]
        complete += not busy
    except Exception as error:
        if "lock" not in str(error).lower() and "busy" not in str(error).lower():
            raise
    if select.select([sys.stdin], [], [], 0.03)[0]:
        break
print(complete)
