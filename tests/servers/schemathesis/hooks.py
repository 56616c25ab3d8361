"""What schemathesis cannot know of an API of SyndDB: names that exist, bodies that follow one another, waits that a test has time for.

Only cases that fit the document are touched; whatever is meant to be refused is sent as it was made. How often each operation was answered with each
status is written to the file that SYNDDB_COUNTS names, when the process ends.
"""

import atexit
import collections
import itertools
import json
import os
import pathlib
import re

import schemathesis
from schemathesis.transport.serialization import Binary

# What the test prepared: "stream", "table", "endorsed", a message whose checkpoint is endorsed, and in "bodies" a folder with what may be posted, in order.
PREPARED = json.loads(os.environ["SYNDDB_PREPARED"])

COUNTS = collections.defaultdict(collections.Counter)
CALLS = collections.Counter()

# Waits that are answered when something happens are given the time for it; one for what never comes is short.
WAIT_MS = {"push": 20_000, "audit": 20_000, "checkpoint": 20}

# Of a query the wait is in its body, and what it waits for hardly ever comes.
QUERY_WAIT_MS = 20

# Sequences that a log of a test never reaches.
FAR = 1_000_000


def bodies(kind):
    folder = PREPARED.get("bodies")
    return sorted(pathlib.Path(folder).glob(f"{kind}-*")) if folder else []


# Each submission is sent twice: it is new once, and known after that. The last one is repeated.
def in_order(kind):
    found = bodies(kind)
    twice = [file for file in found for _ in range(2)]
    return itertools.chain(twice, itertools.repeat(found[-1])) if found else None


NEXT = {"submit": in_order("submit"), "snapshot": in_order("snapshot"), "chunk": in_order("chunk")}


# A body that stands in a file is a text that names it until it is sent, because a text fits the document and bytes are compared with nothing.
PREFIX = "prepared: "


@schemathesis.serializer("application/cbor", "application/octet-stream")
def octets(context, value):
    if isinstance(value, str) and value.startswith(PREFIX):
        return pathlib.Path(value.removeprefix(PREFIX)).read_bytes()
    if isinstance(value, Binary):
        return value.data
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def fits(case):
    return case.meta is None or case.meta.generation.mode.is_positive


def number(value):
    return int(value) if re.fullmatch(r"[0-9]{1,20}", str(value)) else None


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw["operationId"].removesuffix("_of_stream")
    query = case.query or {}
    if operation in WAIT_MS and ("wait_ms" not in query or number(query["wait_ms"]) is not None):
        case.query = {**query, "wait_ms": WAIT_MS[operation]}
    if operation == "query" and isinstance(case.body, dict) and number(case.body.get("wait_ms", 0)) is not None:
        case.body["wait_ms"] = QUERY_WAIT_MS
    if operation == "log":
        show_past(case, query)
    if operation == "changes":
        show_few(case, query)
    if not fits(case):
        return
    CALLS[case.operation.label] += 1
    # Of five cases four are made such that they can be answered; the fifth is left to chance.
    if CALLS[case.operation.label] % 5 == 0:
        return
    path = case.path_parameters or {}
    if "stream" in path:
        path["stream"] = PREPARED["stream"]
    if operation == "endorsement":
        path["sequence"] = PREPARED["endorsed"]
    if NEXT.get(operation) is not None:
        file = next(NEXT[operation])
        case.body = f"{PREFIX}{file}"
        if operation == "chunk":
            path["hash"] = file.name.rsplit("-", 1)[1]
    if operation == "rows" and isinstance(case.body, dict):
        case.body["table"] = PREPARED["table"]
        for key in ("after", "through"):
            case.body.pop(key, None)
    if operation == "query" and isinstance(case.body, dict):
        case.body.update(sql=f"SELECT * FROM {PREPARED['table']}", parameters=[])
        case.body.pop("wait_for", None)


def show_past(case, query):
    """A log as it grows has no end, but for who asks for what is only in the store by now."""
    headers = case.headers or {}
    last = [name for name in headers if name.lower() == "last-event-id"]
    for name in last:
        del case.headers[name]
    first = number(query.get("from"))
    if "from" not in query or (first is not None and 0 < first < FAR):
        if case.query is None:
            case.query = {}
        case.query["from"] = 1


def show_few(case, query):
    """Changes have no end, but for who says where."""
    headers = case.headers or {}
    last = [name for name in headers if name.lower() == "last-event-id"]
    for name in last:
        del case.headers[name]
    through = number(query.get("through"))
    if "through" not in query or (through is not None and 0 < through <= 999_999_999_999):
        if case.query is None:
            case.query = {}
        case.query["through"] = 1


@schemathesis.hook
def after_call(context, case, response):
    COUNTS[case.operation.label][str(response.status_code)] += 1


@atexit.register
def write_counts():
    with open(os.environ["SYNDDB_COUNTS"], "w", encoding="utf-8") as file:
        json.dump(COUNTS, file, indent=1, sort_keys=True)
