"""Odd files, and the rows or the mistake that every reader must find in them.

Expected rows are tuples of the columns that are named: user and item as text, then
request as text, time in seconds, label and title.
"""

import dataclasses
import datetime
import decimal
import gzip

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [("1", "a"), ("2", "b")]
UTC = datetime.timezone.utc


@dataclasses.dataclass
class Odd:
    """A file, arguments of the readers, and what they must find.

    Attributes:
      content: Bytes or text of the file, or an Arrow table.
      expected: Rows, or a regular expression of the error.
      ending: Of the file's name.
      named: Arguments of the readers.
      streams: Whether the error is one for a stream too: it does not look ahead for a
        second user, or for any row.
      told_in_stream: A stream's own error where it is another: it tells of a part.
    """

    content: object
    expected: object
    ending: str = ""
    named: dict = dataclasses.field(default_factory=dict)
    streams: bool = True
    told_in_stream: str = ""

    def write(self, folder):
        """Writes the file and returns its path."""
        ending = self.ending or (".parquet" if self._is_table() else ".csv")
        path = folder / f"odd{ending}"
        if self._is_table():
            pq.write_table(self.content, path, row_group_size=2)
        elif isinstance(self.content, str):
            path.write_bytes(self.content.encode("utf-8"))
        else:
            path.write_bytes(self.content)
        return path

    def _is_table(self):
        return isinstance(self.content, pa.Table)


def _table(user=(1, 2), item=("a", "b"), **columns):
    return pa.table({"user": user, "item": item, **columns})


def _repeated(*names):
    columns = ["1", "2"], ["a", "b"], ["c", "d"], ["e", "f"]
    return pa.table([pa.array(column) for column in columns], names=names)


def _bytes_of(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _moments(*numbers, unit="s", tz=None):
    return pa.array(numbers, pa.int64()).cast(pa.timestamp(unit, tz))


_CSV = "user,item\n1,a\n2,b\n"
_LONG = "x" * 700_000
_FIELDS = r"Each row must have 2 fields, received {} in row 3"
_TIME, _LABEL = {"time": "t"}, {"label": "y"}
_T = "user,item,t\n1,a,{}\n2,b,{}\n"
_Y = "user,item,y\n1,a,{}\n2,b,{}\n3,c,{}\n"
_3 = {"user": [1, 2, 3], "item": ["a", "b", "c"]}

TEXT = {
    "plain": Odd(_CSV, ROWS),
    "tabs": Odd("user\titem\n1\ta\n2\tb,c\n", [("1", "a"), ("2", "b,c")], ".tsv"),
    "capital ending": Odd(_CSV, ROWS, ".CSV"),
    "byte-order mark": Odd("\ufeff" + _CSV, ROWS),
    "byte-order mark, quoted header": Odd('\ufeff"user","item"\n1,a\n2,b\n', ROWS),
    "quotes and CRLF": Odd('"user","item"\r\n"1","a"\r\n"2","b"\r\n', ROWS),
    "CR": Odd(_CSV.replace("\n", "\r"), ROWS),
    "no last line break": Odd(_CSV[:-1], ROWS),
    "empty lines": Odd("\nuser,item\n\n1,a\n\n\n2,b\n\n", ROWS),
    "line of blanks": Odd("user,item\n1,a\n  \n2,b\n", _FIELDS.format(1)),
    "semicolons": Odd("user;item\n1;a\n2;b\n", "user;item.*semicolons: write commas"),
    "tabs in .csv": Odd("user\titem\n1\ta\n2\tb\n", "separated by tabs: write commas"),
    "commas in .tsv": Odd(_CSV, "separated by commas: write tabs", ".tsv"),
    "trailing commas": Odd("user,item\n1,a\n2,b,\n", _FIELDS.format(3)),
    "trailing commas everywhere": Odd("user,item,\n1,a,\n2,b,\n", ROWS),
    "short row": Odd("user,item\n1,a\n2\n", _FIELDS.format(1)),
    "long row": Odd("user,item\n1,a\n2,b,c\n", _FIELDS.format(3)),
    "words for nothing": Odd(
        "user,item\nNA,null\nNone,NULL\nnan,N/A\n",
        [("NA", "null"), ("None", "NULL"), ("nan", "N/A")],
    ),
    "empty field": Odd("user,item\n1,a\n,b\n,c\n", "'user'.*2 nulls in 3 rows"),
    "empty quotes": Odd('user,item\n1,a\n2,""\n', "'item'.*1 nulls in 2 rows"),
    "leading zeros": Odd("user,item\n007,01\n7,1\n", [("007", "01"), ("7", "1")]),
    "below 0": Odd("user,item\n-1,0\n-2,-0\n", [("-1", "0"), ("-2", "-0")]),
    "beyond int64": Odd(
        "user,item\n9223372036854775808,-9223372036854775808\n1,2\n",
        [("9223372036854775808", "-9223372036854775808"), ("1", "2")],
    ),
    "numbers with decimals": Odd(
        "user,item\n1.0,1e3\n2.0,2\n", [("1.0", "1e3"), ("2.0", "2")]
    ),
    "unicode": Odd(
        "user,item\né,日本\ne\u0301,😀\n", [("é", "日本"), ("e\u0301", "😀")]
    ),
    "blanks in ids": Odd("user,item\n 1,a \n1,a\n", [(" 1", "a "), ("1", "a")]),
    "NUL": Odd("user,item\n1\x002,a\n1,b\n", [("1\x002", "a"), ("1", "b")]),
    "quoted line breaks": Odd(
        'user,item\n1,"a\nb"\n2,"c\r\n,""d"""\n', [("1", "a\nb"), ("2", 'c\r\n,"d"')]
    ),
    "quotes within fields": Odd(
        'user,item\n1,5" disk\n2,a"b"\n', [("1", '5" disk'), ("2", 'a"b"')]
    ),
    "open quotes": Odd('user,item\n1,"a\n2,b\n', "a quotation does not end"),
    "open quotes at the end": Odd('user,item\n1,a\n2,"b', "a quotation does not end"),
    "open quotes in another column": Odd(
        'user,item,x\n1,a,b\n2,b,"c\n', "a quotation does not end"
    ),
    "open quotes before much": Odd(
        'user,item\n1,"a\n' + "2,b\n" * 2_200_000, "a row has more than 4 MiB"
    ),
    "long field": Odd(f"user,item\n1,{_LONG}\n2,b\n", [("1", _LONG), ("2", "b")]),
    "latin-1": Odd(_CSV.encode() + b"3,\xe4\n", "UTF-8.*cannot be read.*UTF8"),
    "latin-1 header": Odd(b"user,item,stra\xdfe\n1,a,x\n2,b,y\n", "UTF-8"),
    "UTF-16": Odd(_CSV.encode("utf-16"), "UTF-8.*cannot be read"),
    "packed": Odd(gzip.compress(_CSV.encode()), ROWS, ".csv.gz"),
    "packed tabs": Odd(
        gzip.compress(_CSV.replace(",", "\t").encode()), ROWS, ".tsv.gz"
    ),
    "packed in two pieces": Odd(
        gzip.compress(_CSV.encode()) + gzip.compress(b"3,c\n"),
        [*ROWS, ("3", "c")],
        ".csv.gz",
    ),
    "packed, cut off": Odd(
        gzip.compress(_CSV.encode())[:-9], "cannot be read", ".csv.gz"
    ),
    "packed in name only": Odd(_CSV, "cannot be read", ".csv.gz"),
    "no such column": Odd("User,item\n1,a\n2,b\n", "a user column 'user'.*User, item"),
    "one name twice": Odd("user,item,user\n1,a,2\n3,b,4\n", "one user column 'user'"),
    "another name twice": Odd("user,item,x,x\n1,a,2,3\n2,b,3,4\n", ROWS),
    "empty": Odd("", "received an empty file"),
    "line breaks alone": Odd("\n\n", "received an empty file"),
    "header alone": Odd("user,item\n", "received an empty table", streams=False),
    "header without a line break": Odd("user,item", "an empty table", streams=False),
    "one user": Odd("user,item\n1,a\n1,b\n", "at least 2 users", streams=False),
    "labels of words": Odd(
        _Y.format("True", "FALSE", "true"),
        [("1", "a", 1.0), ("3", "c", 1.0)],
        named=_LABEL,
    ),
    "labels of words and numbers": Odd(
        _Y.format("True", " 0.5", "0"), [("1", "a", 1.0), ("2", "b", 0.5)], named=_LABEL
    ),
    "labels of other words": Odd(
        _Y.format(1, "yes", 0), "numbers, received 'yes'", named=_LABEL
    ),
    "labels with decimal commas": Odd(
        _Y.format(1, '"3,5"', 0), "received '3,5'", named=_LABEL
    ),
    "labels that are NaN": Odd(
        _Y.format(1, "nan", 0), "numbers, received nan", named=_LABEL
    ),
    "no positive label": Odd(
        _Y.format(0, -1, 0),
        "'y'.*above 0.*no such row of 3",
        named=_LABEL,
        streams=False,
    ),
    "missing labels": Odd(_Y.format(1, "", 0), "'y'.*1 nulls in 3 rows", named=_LABEL),
    "two mistakes": Odd(
        "user,item,y\n1,a,x\n,b,1\n", "'y' .*received 'x'", named=_LABEL
    ),
    "titles": Odd(
        'user,item,n\n1,a,"A, B"\n2,b,\n',
        [("1", "a", "A, B"), ("2", "b", "")],
        named={"title": "n"},
    ),
    "requests": Odd(
        "user,item,r\n1,a,-1\n2,b,007\n",
        [("1", "a", "-1"), ("2", "b", "007")],
        named={"request": "r"},
    ),
    "fractions of seconds": Odd(
        _T.format(1.5, -2), [("1", "a", 1.5), ("2", "b", -2.0)], named=_TIME
    ),
    "dates": Odd(
        _T.format("1970-01-02T01:00:00+01:00", "1970-01-01T00:00:01.5Z"),
        [("1", "a", 86_400.0), ("2", "b", 1.5)],
        named=_TIME,
    ),
    "dates and numbers": Odd(
        _T.format(5, "1970-01-02"), "alike.*'1970-01-02'", named=_TIME
    ),
    "numbers and dates": Odd(
        _T.format("1970-01-02", "now"), "alike.*'now'", named=_TIME
    ),
    "dates of another form": Odd(
        _T.format("31/01/2024", "01/02/2024"), "'31/01/2024'", named=_TIME
    ),
    "days as numbers": Odd(
        _T.format(20240131, 20240201), "20240131.*YYYYMMDD", named=_TIME
    ),
    "milliseconds": Odd(
        _T.format(1_500_000_000_000, 1), "milliseconds.*1,000", named=_TIME
    ),
}

PARQUET = {
    "nullable": Odd(_table(pa.array([1, 2], pa.int64())), ROWS),
    "missing": Odd(_table(pa.array([1, None])), "'user'.*1 nulls in 2 rows"),
    "missing in a later group": Odd(
        pa.table({"user": [1, None, 3, None, None], "item": list("abcde")}),
        "'user'.*3 nulls in 5 rows[.]",
        told_in_stream="'user'.*1 nulls in 2 rows from row 1 on",
    ),
    "missing as NaN": Odd(_table([1.0, float("nan")]), "'user'.*1 nulls in 2 rows"),
    "nothing but missing": Odd(_table(pa.nulls(2)), "'user'.*2 nulls in 2 rows"),
    "dictionary": Odd(_table(item=pa.array(["a", "b"]).dictionary_encode()), ROWS),
    "dictionary of numbers": Odd(_table(pa.array([1, 2]).dictionary_encode()), ROWS),
    "dictionary, missing": Odd(
        _table(item=pa.array(["a", None]).dictionary_encode()), "'item'.*1 nulls in 2"
    ),
    "small integers": Odd(_table(pa.array([1, 2], pa.int8())), ROWS),
    "unsigned": Odd(_table(pa.array([1, 2], pa.uint64())), ROWS),
    "unsigned beyond int64": Odd(
        _table(pa.array([1, 2**63], pa.uint64())), f"fit into int64.*{2**63}"
    ),
    "below 0": Odd(_table([-1, -(2**63)]), [("-1", "a"), (str(-(2**63)), "b")]),
    "decimal of whole numbers": Odd(
        _table([decimal.Decimal(1), decimal.Decimal(2)]), ROWS
    ),
    "decimal": Odd(
        _table([decimal.Decimal("1.5"), decimal.Decimal("2.5")]), "decimal128"
    ),
    "floats": Odd(_table([1.0, 2.0]), "whole numbers or strings.*double"),
    "booleans": Odd(_table([True, False]), "whole numbers or strings.*bool"),
    "days": Odd(_table([datetime.date(2024, 1, 31)] * 2), "strings, received date32"),
    "empty strings": Odd(_table(item=["", "b"]), [("1", ""), ("2", "b")]),
    "large strings": Odd(_table(item=pa.array(["a", "b"], pa.large_string())), ROWS),
    "string views": Odd(_table(item=pa.array(["a", "b"], pa.string_view())), ROWS),
    "bytes": Odd(_table(item=[b"a", "é".encode()]), [("1", "a"), ("2", "é")]),
    "bytes of one length": Odd(_table(item=pa.array([b"a", b"b"], pa.binary(1))), ROWS),
    "bytes that are no text": Odd(_table(item=[b"a", b"\xff"]), "'item'.*UTF-8.*xff"),
    "baskets": Odd(
        _table(item=[["a", "b"], ["c"]]), [("1", "a"), ("1", "b"), ("2", "c")]
    ),
    "baskets with columns": Odd(
        _table(item=[["a", "b"], []], t=[5, 6], y=[1, 0]),
        "at least 2 users",
        named={**_TIME, **_LABEL},
        streams=False,
    ),
    "baskets of numbers": Odd(
        _table(item=pa.array([[1, 2], [3]], pa.large_list(pa.int32())), t=[5, 6]),
        [("1", "1", 5.0), ("1", "2", 5.0), ("2", "3", 6.0)],
        named=_TIME,
    ),
    "baskets of one size": Odd(
        _table(item=pa.array([["a"], ["b"]], pa.list_(pa.string(), 1))), ROWS
    ),
    "missing baskets of one size": Odd(
        _table(item=pa.array([["a"], None], pa.list_(pa.string(), 1))),
        "'item'.*1 nulls in 2 rows",
    ),
    "missing baskets": Odd(_table(item=[["a"], None]), "'item'.*1 nulls in 2 rows"),
    "missing in baskets": Odd(
        _table(item=[["a"], ["b", None]]), "'item'.*1 nulls in 3"
    ),
    "lists of users": Odd(_table([[1], [2]]), "'user'.*one value in each row.*list"),
    "lists of lists": Odd(
        _table(item=[[["a"]], [["b"]]]), "'item'.*list of items.*list"
    ),
    "structs": Odd(_table([{"id": 1}, {"id": 2}]), "'user'.*one value.*struct"),
    "struct items": Odd(_table(item=[{"id": 1}, {"id": 2}]), "'item'.*struct"),
    "maps": Odd(
        _table(pa.array([[("k", 1)], [("l", 2)]], pa.map_(pa.string(), pa.int64()))),
        "'user'.*map",
    ),
    "one name twice": Odd(
        _repeated("user", "item", "item", "x"), "one item column 'item'"
    ),
    "another name twice": Odd(_repeated("user", "item", "x", "x"), ROWS),
    "a dot in a name": Odd(
        pa.table({"user.id": [1, 2], "item": ["a", "b"]}),
        ROWS,
        named={"user": "user.id"},
    ),
    "no rows of any type": Odd(
        pa.table({"user": pa.nulls(0), "item": pa.nulls(0), "t": pa.nulls(0)}),
        "received an empty table",
        named=_TIME,
        streams=False,
    ),
    "no rows": Odd(_table().slice(0, 0), "received an empty table", streams=False),
    "moments": Odd(
        _table(t=_moments(1, 2)), [("1", "a", 1.0), ("2", "b", 2.0)], named=_TIME
    ),
    "moments with a zone": Odd(
        _table(t=_moments(1_500, 2_000, unit="ms", tz="Asia/Tokyo")),
        [("1", "a", 1.5), ("2", "b", 2.0)],
        named=_TIME,
    ),
    "nanoseconds of moments": Odd(
        _table(t=_moments(1_500_000_000, -(10**9), unit="ns")),
        [("1", "a", 1.5), ("2", "b", -1.0)],
        named=_TIME,
    ),
    "dates": Odd(
        _table(t=[datetime.date(1970, 1, 2), datetime.date(1969, 12, 31)]),
        [("1", "a", 86_400.0), ("2", "b", -86_400.0)],
        named=_TIME,
    ),
    "dates as text": Odd(
        _table(t=["1970-01-02", "1970-01-01"]),
        [("1", "a", 86_400.0), ("2", "b", 0.0)],
        named=_TIME,
    ),
    "times of day": Odd(
        _table(t=[datetime.time(1), datetime.time(2)]), "'t'.*time64", named=_TIME
    ),
    "durations": Odd(
        _table(t=[datetime.timedelta(1)] * 2), "'t'.*duration", named=_TIME
    ),
    "times that are true": Odd(_table(t=[True, False]), "'t'.*bool", named=_TIME),
    "days as numbers": Odd(_table(t=[20240131, 20240201]), "YYYYMMDD", named=_TIME),
    "labels of booleans": Odd(
        pa.table({**_3, "y": [True, False, True]}),
        [("1", "a", 1.0), ("3", "c", 1.0)],
        named=_LABEL,
    ),
    "labels of decimals": Odd(
        pa.table(
            {
                **_3,
                "y": [decimal.Decimal("0.5"), decimal.Decimal(2), decimal.Decimal(0)],
            }
        ),
        [("1", "a", 0.5), ("2", "b", 2.0)],
        named=_LABEL,
    ),
    "labels of text": Odd(
        pa.table({**_3, "y": ["1", "0", "2.5"]}),
        [("1", "a", 1.0), ("3", "c", 2.5)],
        named=_LABEL,
    ),
    "labels of bytes that are no text": Odd(
        _table(y=[b"1", b"\xff"]), r"'y'.*numbers, received '.*xff'", named=_LABEL
    ),
    "infinite labels": Odd(
        _table(y=[1.0, float("inf")]), "'y'.*numbers, received inf", named=_LABEL
    ),
    "labels of dates": Odd(
        _table(y=_moments(1, 2)), "'y'.*numbers.*timestamp", named=_LABEL
    ),
    "missing titles": Odd(
        _table(n=["A", None]), [("1", "a", "A"), ("2", "b", "")], named={"title": "n"}
    ),
    "titles of numbers": Odd(
        _table(n=[1, 2]), "'n'.*strings, received int64", named={"title": "n"}
    ),
    "cut off": Odd(_bytes_of(_table())[:-20], "cannot be read", ".parquet"),
    "text": Odd(_CSV, "Parquet.*cannot be read", ".parquet"),
}

FILES = {
    **{f"text: {name}": odd for name, odd in TEXT.items()},
    **{f"Parquet: {name}": odd for name, odd in PARQUET.items()},
}
