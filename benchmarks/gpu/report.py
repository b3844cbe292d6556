"""The rows of a run as a table: time over the floor and over ours, and memory.

Of a case that was run again the last row counts, and only what is "ok" has a time.

python -m benchmarks.gpu.report --rows results.csv
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import markdown

_SIZE = ("rows", "extra", "width", "dtype", "collisions")
_WHERE = ("programs", "device")  # Times of others are not compared.
_CASE = ("subject", "row_block", *_SIZE, *_WHERE)
_HEADER = ["B", "K", "d", "dtype", "collisions", "subject", "status", "ms", "MiB"]
_HEADER += ["over floor", "over ours", "gradient error"]


def summary(rows):
    """A Markdown table of the rows, size by size."""
    last = {tuple(row[name] for name in _CASE): row for row in rows}
    by_size = {}
    for row in last.values():
        size = tuple(row[name] for name in (*_SIZE, *_WHERE))
        by_size.setdefault(size, []).append(row)
    lines = []
    for size, of_size in by_size.items():
        times = {
            row["subject"]: _milliseconds(row)
            for row in of_size
            if row["row_block"] == "0"
        }
        shown = size[: len(_SIZE)]
        lines += [[*shown, *_figures(row, times)] for row in of_size]
    return markdown(_HEADER, lines)


def _figures(row, times):
    block = "" if row["row_block"] == "0" else f", blocks of {row['row_block']}"
    milliseconds = _milliseconds(row)
    return [
        row["subject"] + block,
        row["status"],
        "" if milliseconds is None else f"{milliseconds:.3f}",
        f"{float(row['memory_mib']):,.0f}" if row["memory_mib"] else "",
        _over(milliseconds, times.get("floor")),
        _over(milliseconds, times.get("ours")),
        row["gradient_error"],
    ]


def _milliseconds(row):
    """What a row took; None where it did not give what it should, or nobody knows."""
    return float(row["ms"]) if row["status"] == "ok" and row["ms"] else None


def _over(one, other):
    return "" if one is None or other is None else f"{one / other:.2f}"


def main():
    parser = command_line.parser(__doc__, quick=False)
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="of `run`")
    print(summary(csv_rows.read(command_line.parse(parser).rows)))


if __name__ == "__main__":
    main()
