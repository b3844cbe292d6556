"""What the steps of `tfrs-negatives pipeline` cost, by the number of rows.

    python -m benchmarks.data_engine.run

Needs the extra `beam`. Each step reads the same generated Parquet files, of four
integer columns, in a process of its own with one worker of Beam's local runner. A tenth
of the rows are of one user, a tenth of one request and four tenths of one item. What a
process costs before it reads a row is measured with a table of few rows, and
subtracted. Times are of the processor, not of the clock.
"""

import pathlib
import subprocess
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import module_command

ROWS = pathlib.Path(__file__).with_name("results.csv")
FIELDS = (
    "step rows seconds cpu_seconds rows_a_core_second peak_mib largest_output_rows"
).split() + WHERE
FEW_ROWS = 1000
FILE_ROWS = 1_000_000
HEAVY_ROWS = 40_000
STEPS = {
    "count": ["count"],
    "order": ["order", "--request", "request", "--heavy-rows", HEAVY_ROWS],
    "order --order shuffled": ["order", "--request", "request", "--order", "shuffled"],
    "split": ["split", "--heavy-rows", HEAVY_ROWS],
    "audit": ["audit", "--request", "request", "--heavy-rows", HEAVY_ROWS],
}


def write(folder, num_rows):
    """Writes the table, a file for each million rows."""
    folder.mkdir()
    for number, start in enumerate(range(0, num_rows, FILE_ROWS)):
        rng = np.random.default_rng(number)
        size = min(FILE_ROWS, num_rows - start)
        row = np.arange(start, start + size)
        columns = {
            "user": rng.integers(1, max(2, num_rows // 50), size),
            "item": rng.zipf(1.3, size) % max(2, min(200_000, num_rows // 5)),
            "request": 1 + row // 10,
            "t": 1_600_000_000 + row // 20,
        }
        columns["user"][rng.random(size) < 0.1] = 0
        columns["request"][rng.random(size) < 0.1] = 0
        columns["item"][rng.random(size) < 0.4] = 0
        pq.write_table(pa.table(columns), folder / f"{number:04}.parquet")


def run(words, table, output):
    """Seconds of the clock and of the processor and the peak in MiB of a step."""
    given = ["--input", table, "--output", output, "--time", "t", "--verbose", 0]
    command = module_command("tfrs_negatives.cli", "pipeline", *words, *given)
    cost = costs.of_command(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    return cost["seconds"], cost["cpu_seconds"], cost["peak_mib"]


def largest(output):
    """Rows of the largest file of rows, or None where the step writes none."""
    paths = output.rglob("*.parquet")
    return max((pq.read_metadata(path).num_rows for path in paths), default=None)


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    arguments = command_line.parse(parser, rows=[2_000], steps=["count", "order"])
    about = provenance(("apache-beam", "tensorflow", "pyarrow", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for num_rows in {FEW_ROWS, *arguments.rows}:
            write(folder / str(num_rows), num_rows)
        for step in arguments.steps:
            _, before, _ = run(STEPS[step], folder / str(FEW_ROWS), folder / step)
            for num_rows in arguments.rows:
                output = folder / f"{step} {num_rows}"
                seconds, cpu, peak = run(STEPS[step], folder / str(num_rows), output)
                row = {
                    "step": step,
                    "rows": num_rows,
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(cpu - before, 1),
                    "rows_a_core_second": round(num_rows / (cpu - before)),
                    "peak_mib": round(peak),
                    "largest_output_rows": largest(output),
                    **about,
                }
                csv_rows.append(arguments.output, FIELDS, row)
                csv_rows.show(row, FIELDS[:7])


if __name__ == "__main__":
    main()
