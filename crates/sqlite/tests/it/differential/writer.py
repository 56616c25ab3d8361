"""A connection of another SQLite: `writer.py sqlite3|apsw <database>` runs what its parent sends, one statement after the other.

Both sides send a line with a length and then so many bytes, as child.rs says."""

import sys

VALUE_END, ROW_END = "\x1f", "\x1e"


def text(value):
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def connect(module, path):
    if module == "apsw":
        import apsw

        connection = apsw.Connection(path)
        return connection, connection.cursor().execute
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    connection.text_factory = bytes
    return connection, connection.execute


def main():
    connection, execute = connect(sys.argv[1], sys.argv[2])
    answers = sys.stdout.buffer
    for line in iter(sys.stdin.buffer.readline, b""):
        sql = sys.stdin.buffer.read(int(line[1:])).decode()
        error, rows = "", []
        try:
            rows = list(execute(sql))
        except Exception as raised:  # every error of SQLite is an answer
            error = str(raised) or repr(raised)
        if line.startswith(b"R"):
            answer = str(int(connection.in_transaction)) + error
        else:
            answer = "".join(VALUE_END.join(map(text, row)) + ROW_END for row in rows)
        encoded = answer.encode()
        answers.write(b"answer %d\n%b" % (len(encoded), encoded))
        answers.flush()


main()
