"""Memory and time of `tfrs-negatives audit` on a generated Parquet file.

    python -m benchmarks.audit.scale

Rows are sorted by request, as logs are: a user's request holds a number of rows that is
geometric with mean 20; items are drawn by a power law of their rank. The command runs
in a process of its own, whose peak memory is what the system reports.
"""

import json
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import module_command

ROWS = pathlib.Path(__file__).with_name("scale.csv")
FIELDS = (
    "rows users items requests settings peak_mib seconds cpu_seconds sorted_1024_none "
    "sorted_1024_keys shuffled_1024_none"
).split() + WHERE
MEAN_REQUEST = 20
LIMIT_MIB = 2048


def write(path, num_rows, num_users, num_items, seed, part=1_000_000):
    """Writes the table part by part."""
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(1 / np.arange(1, num_items + 1) ** 0.8)
    popularity /= popularity[-1]
    schema = pa.schema(
        [("user", pa.int64()), ("item", pa.int64())] + [("request", pa.int64())]
    )
    request, written = 0, 0
    with pq.ParquetWriter(path, schema) as writer:
        while written < num_rows:
            sizes = rng.geometric(1 / MEAN_REQUEST, size=part // MEAN_REQUEST)
            requests = np.repeat(np.arange(request, request + len(sizes)), sizes)
            users = np.repeat(rng.integers(0, num_users, len(sizes)), sizes)
            items = np.searchsorted(popularity, rng.random(len(users)))
            request += len(sizes)
            rows = slice(0, num_rows - written)
            columns = {"user": users, "item": items, "request": requests}
            columns = {name: values[rows] for name, values in columns.items()}
            writer.write_table(pa.table(columns, schema=schema))
            written += len(columns["user"])


def run(path, folder):
    """Runs the command; returns its report, peak memory in MiB and times in s."""
    words = ["audit", "--data", path, "--request", "request", "--output", folder]
    command = module_command("tfrs_negatives.cli", *words)
    cost = costs.of_command(command, cwd=PROJECT)
    report = json.loads((folder / "audit.json").read_text())
    return report, cost["peak_mib"], cost["seconds"], cost["cpu_seconds"]


def rate(report, order, level, size=1024):
    for setting in report["settings"]:
        if (setting["order"], setting["batch_size"]) == (order, size):
            found = setting["levels"][level]["false_negative_rate"]
            return f"{found['value']:.6f} +- {found['standard_error']:.6f}"
    return ""


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100_000)
    arguments = command_line.parse(parser, rows=20_000, users=500, items=300)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "table.parquet"
        write(path, arguments.rows, arguments.users, arguments.items, seed=0)
        report, peak, seconds, cpu = run(path, pathlib.Path(folder) / "audit")
    table = report["table"]
    if table["rows_read"] != arguments.rows or table["rows_used"] != arguments.rows:
        raise SystemExit(f"Expected {arguments.rows} rows, received {table}.")
    row = {
        "rows": table["rows_used"],
        "users": table["users"],
        "items": table["items"],
        "requests": table["requests"],
        "settings": len(report["settings"]),
        "peak_mib": round(peak),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu),
        "sorted_1024_none": rate(report, "request_sorted", "none"),
        "sorted_1024_keys": rate(report, "request_sorted", "keys"),
        "shuffled_1024_none": rate(report, "shuffled", "none"),
        **provenance(("tensorflow", "numpy", "pyarrow", "pandas")),
    }
    csv_rows.write(arguments.output, FIELDS, [row])
    verdict(peak < LIMIT_MIB, f"{peak:.0f} MiB at the most, {LIMIT_MIB} allowed")


if __name__ == "__main__":
    main()
