"""Commits one row after the other, and says of each commit that returned.

usage: writer.py {sqlite3|apsw} DATABASE COMMITS BYTES COMMITS_PER_SECOND; 0 is as fast as it can
"""

import select
import sys
import time

module, path, commits, size, rate = sys.argv[1:]
if module == "apsw":
    import apsw

    sqlite, version = apsw.Connection(path), apsw.sqlite_lib_version()
else:
    import sqlite3

    # Without an isolation level the module begins and ends no transaction by itself.
    sqlite, version = sqlite3.connect(path, isolation_level=None), sqlite3.sqlite_version

cursor = sqlite.cursor()
cursor.execute("PRAGMA busy_timeout = 60000")
cursor.execute("PRAGMA synchronous = NORMAL")
print(version)
begun = time.monotonic()
for number in range(int(commits)):
    if int(rate) and number % 20 == 0:
        select.select([], [], [], max(0, begun + number / int(rate) - time.monotonic()))
    cursor.execute("INSERT INTO event VALUES (?, ?)", (number, bytes(number % int(size))))
    print(number)
