"""Item neighbours and EASE^R of large catalogues: time, and how far memory grows.

    python -m benchmarks.teachers.scale

Interactions are drawn: users and items by powers of their rank, so that some have many.
Each run has a process of its own that makes its histories, notes its resident memory,
has Linux forget the peak, fits, and then asks for the 100 best items of each user (of
EASE^R: of 1,000 users). `dense_mib` is what all co-counts at once would take, a float32
for each pair of items.
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerProcess

ROWS = pathlib.Path(__file__).with_name("scale.csv")
PACKAGES = "tensorflow", "numpy", "scipy"
FIELDS = (
    "teacher threads interactions num_users num_items fit_seconds fit_cpu_seconds "
    "fit_growth_mib dense_mib asked_users top_seconds top_cpu_seconds top_growth_mib"
).split() + WHERE
# Interactions, users and items that are drawn from.
SIZES = (
    ("neighbours", 1_000_000, 100_000, 200_000),
    ("neighbours", 4_000_000, 400_000, 2_000_000),
    ("ease", 1_000_000, 100_000, 5_000),
    ("ease", 1_000_000, 5_000, 200_000),
)


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--smaller", type=int, default=1, help="divides all sizes")
    arguments = command_line.parse(parser, smaller=50)
    about, rows = provenance(PACKAGES), []
    for teacher, *sizes in SIZES:
        for threads in arguments.threads:
            words = teacher, threads, *(size // arguments.smaller for size in sizes)
            worker = WorkerProcess("benchmarks.teachers.scale_worker", *words)
            try:
                row = worker.read()
            finally:
                worker.close()
            csv_rows.show(row)
            rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
