"""Watches a WAL from outside: how often it began anew, and how large it was.

Knows nothing of SQLite but where the header of the file has its two salts, and that the first of them grows by one whenever the WAL begins anew,
unless it is drawn anew.

usage: watcher.py WAL; says when it has begun, ends when its standard input does, and prints one JSON object.
"""

import json
import os
import select
import sys

# Seconds between two looks: many within the time that even an empty transaction of every generation takes.
LOOK_AGAIN = 0.0002

wal = os.open(sys.argv[1], os.O_RDONLY)
seen = None
resets = skipped = looks = peak = 0
ended = False
print("watching", flush=True)
while not ended:
    ended = bool(select.select([sys.stdin], [], [], LOOK_AGAIN)[0])
    looks += 1
    peak = max(peak, os.fstat(wal).st_size)
    header = os.pread(wal, 32, 0)
    salts = header[16:24]
    # A header that is just being written is looked at again.
    if len(header) < 32 or salts == seen or header != os.pread(wal, 32, 0):
        continue
    if seen is not None:
        resets += 1
        between = (int.from_bytes(salts[:4], "big") - int.from_bytes(seen[:4], "big") - 1) % (1 << 32)
        # Generations that had no frame, or were too short for this watcher. A larger number was drawn.
        skipped += between if between < 1000 else 0
    seen = salts
print(json.dumps({"resets": resets, "skipped": skipped, "peak": peak, "looks": looks}))
