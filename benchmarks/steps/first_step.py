"""How long `model.fit` takes until its first step is done.

    python -m benchmarks.steps.first_step

From the call of `fit` of a model that was compiled and nothing else, to the end of its
first step: tables and moments are made, the step is traced and optimised, the pipeline
starts. Each time is that of a process of its own; they take turns.
"""

import pathlib
import statistics

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import WorkerProcess
from benchmarks.steps.problem import Problem

ROWS = pathlib.Path(__file__).with_name("first_step.csv")
PACKAGES = "tensorflow tensorflow-recommenders tf-keras keras numpy".split()
FIELDS = (
    "subject keras optimizer users items width batch negatives runs first_seconds "
    "slowest_seconds third_seconds"
).split() + WHERE
# Subject, Keras, optimizer.
SUBJECTS = [
    *[("ours", keras, adam) for keras in (2, 3) for adam in ("lazy", "adam")],
    ("tfrs_plain", 2, "adam"),
]


def run(subject, sizes):
    """What one process measured."""
    task, keras, optimizer = subject
    legacy = "0" if keras == 3 else "1"
    worker = WorkerProcess(
        "benchmarks.steps.first_step_worker",
        *(task, optimizer, *sizes),
        environment={"TF_USE_LEGACY_KERAS": legacy},
    )
    try:
        return worker.read()
    finally:
        worker.close()


def main():
    parser = command_line.parser(__doc__, ROWS)
    for name in ("users", "items", "width", "batch", "negatives"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Problem, name))
    parser.add_argument("--runs", type=int, default=5)
    arguments = command_line.parse(
        parser, users=1000, items=500, width=8, batch=64, negatives=64, runs=1
    )
    names = ("users", "items", "width", "batch", "negatives")
    sizes = {name: getattr(arguments, name) for name in names}
    found = {subject: [] for subject in SUBJECTS}
    for _ in range(arguments.runs):
        for subject in SUBJECTS:
            found[subject].append(run(subject, sizes.values()))
    about = provenance(PACKAGES)
    for (task, keras, optimizer), times in found.items():
        first = [each["first"] for each in times]
        row = {
            "subject": task,
            "keras": keras,
            "optimizer": optimizer,
            **sizes,
            "runs": arguments.runs,
            "first_seconds": round(statistics.median(first), 2),
            "slowest_seconds": round(max(first), 2),
            "third_seconds": round(statistics.median(e["third"] for e in times), 3),
        }
        csv_rows.show(row)
        csv_rows.append(arguments.output, FIELDS, {**row, **about})


if __name__ == "__main__":
    main()
