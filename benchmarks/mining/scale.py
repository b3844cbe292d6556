"""Mining a million items: time, and how far memory grows beyond what the index holds.

    python -m benchmarks.mining.scale

Points around 100 centres, 64 wide. Each subject has a process of its own that builds
its index, notes its resident memory, has Linux forget the peak, and mines: 50 negatives
of ranks 101 to 500, 20 known positives a query. The first queries include tracing.
`matrix_mib` is what all scores at once would take, a float32 for each query and item.
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerProcess

ROWS = pathlib.Path(__file__).with_name("scale.csv")
PACKAGES = "tensorflow", "tf-keras", "scann", "numpy"
FIELDS = (
    "subject num_items width num_queries build_seconds seconds cpu_seconds before_mib "
    "growth_mib matrix_mib"
).split() + WHERE
SUBJECTS = "brute_force", "scann_ops_pybind"


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=SUBJECTS)
    arguments = command_line.parse(parser, items=20_000, queries=[64])
    about, rows = provenance(PACKAGES), []
    for subject in arguments.subjects:
        for num_queries in arguments.queries:
            words = subject, arguments.items, num_queries
            worker = WorkerProcess("benchmarks.mining.scale_worker", *words)
            try:
                row = worker.read()
            finally:
                worker.close()
            csv_rows.show(row)
            rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
