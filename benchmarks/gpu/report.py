"""The rows of a run as a table: time over the floor and over ours, and memory.

python -m benchmarks.gpu.report --rows results.csv
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import markdown

_SIZE = ("rows", "extra", "width", "dtype", "collisions")
_HEADER = ["B", "K", "d", "dtype", "collisions", "subject", "ms", "MiB", "over floor"]
_HEADER += ["over ours", "gradient error"]


def summary(rows):
    """A Markdown table of the rows, size by size."""
    by_size = {}
    for row in rows:
        by_size.setdefault(tuple(row[name] for name in _SIZE), []).append(row)
    lines = []
    for size, of_size in by_size.items():
        times = {
            row["subject"]: float(row["ms"])
            for row in of_size
            if row["ms"] and row["row_block"] == "0"
        }
        lines += [[*size, *_figures(row, times)] for row in of_size]
    return markdown(_HEADER, lines)


def _figures(row, times):
    block = "" if row["row_block"] == "0" else f", blocks of {row['row_block']}"
    milliseconds = float(row["ms"]) if row["ms"] else None
    return [
        row["subject"] + block,
        row["status"] if milliseconds is None else f"{milliseconds:.3f}",
        f"{float(row['memory_mib']):,.0f}" if row["memory_mib"] else "",
        _over(milliseconds, times.get("floor")),
        _over(milliseconds, times.get("ours")),
        row["gradient_error"],
    ]


def _over(one, other):
    return "" if one is None or other is None else f"{one / other:.2f}"


def main():
    parser = command_line.parser(__doc__, quick=False)
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="of `run`")
    print(summary(csv_rows.read(command_line.parse(parser).rows)))


if __name__ == "__main__":
    main()
