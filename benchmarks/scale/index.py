"""What an index of two million items takes, and its export.

    python -m benchmarks.scale.index

Embeddings are random and of length 1, ids whole numbers. Each index is built, asked for
10 items of one query at a time, and exported, in a process of its own. Memory is the
peak beyond the embeddings, which `tfrs-negatives train` holds too.
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerProcess

ROWS = pathlib.Path(__file__).with_name("index.csv")
PACKAGES = "tensorflow", "tf-keras", "scann", "numpy"
FIELDS = (
    "index items width seconds_to_build seconds_to_export query_ms build_mib "
    "export_mib disk_mib"
).split() + WHERE
INDEXES = "BruteForce", "ScaNN"


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--indexes", nargs="+", default=INDEXES, choices=INDEXES)
    arguments = command_line.parse(parser, items=20_000, width=8)
    for index in arguments.indexes:
        words = index, arguments.items, arguments.width
        worker = WorkerProcess("benchmarks.scale.index_worker", *words)
        try:
            answer = worker.read()
        finally:
            worker.close()
        row = {k: round(v, 1) if isinstance(v, float) else v for k, v in answer.items()}
        csv_rows.show(row)
        csv_rows.append(arguments.output, FIELDS, {**row, **provenance(PACKAGES)})


if __name__ == "__main__":
    main()
