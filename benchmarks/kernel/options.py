"""What each option of the task adds to a step: time, and memory by the batch.

    python -m benchmarks.kernel.options

Value and both gradients of a call with masks and log q (`corrected` of
`task_calls.py`), and of the same call with one option more. Every option has a process
of its own; they take turns, so that what else the machine does falls on all alike.
Ratios are medians over turns of what two neighbouring turns give. Memory is how far the
peak exceeded what was in use before the first step. Its exponent is the slope of the
logarithm of memory over that of the batch, from the second smallest batch on: memory
that is linear in the batch has 1, a B x C matrix 2.
"""

import math
import pathlib
import statistics

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import SteppingWorker

ROWS = pathlib.Path(__file__).with_name("options.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
DEFAULT = "corrected"
OPTIONS = "outside", "weighted", "targets", "filtered", "strata"
FIGURES = (
    "option batch width turns wall_ms cpu_ms wall_over_default cpu_over_default "
    "memory_mib memory_exponent"
).split()
FIELDS = [*FIGURES, *WHERE]


def measure(options, batch, width, turns):
    """Rows of the CSV for one batch, the default's first; without exponents."""
    workers = {}
    try:
        for option in (DEFAULT, *options):
            workers[option] = SteppingWorker(
                "benchmarks.kernel.task_worker",
                *(option, batch, width, "task"),
                environment={"TF_USE_LEGACY_KERAS": "1"},
            )
        for worker in workers.values():
            worker.read()
            worker.step(2)  # The first steps allocate.
            worker.forget_times()
        taken = {option: [] for option in workers}
        for _ in range(turns):
            for option, worker in workers.items():
                answer = worker.step(2)
                taken[option].append(
                    {name: statistics.mean(answer[name]) for name in ("wall", "cpu")}
                )
    finally:
        for worker in workers.values():
            worker.close()
    return [
        {
            "option": option,
            "batch": batch,
            "width": width,
            "turns": turns,
            **{
                f"{name}_ms": round(1e3 * worker.median(name), 2)
                for name in ("wall", "cpu")
            },
            **{
                f"{name}_over_default": round(
                    statistics.median(
                        one[name] / other[name]
                        for one, other in zip(
                            taken[option], taken[DEFAULT], strict=True
                        )
                    ),
                    3,
                )
                for name in ("wall", "cpu")
            },
            "memory_mib": round(worker.growth_mib, 1),
        }
        for option, worker in workers.items()
    ]


def exponent(rows):
    """The least-squares slope of log memory over log batch, of an option's rows."""
    points = sorted((row["batch"], row["memory_mib"]) for row in rows)[1:]
    if len(points) < 2 or min(memory for _, memory in points) <= 0:
        return ""
    x, y = ([math.log(point[axis]) for point in points] for axis in (0, 1))
    return round(statistics.linear_regression(x, y).slope, 2)


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[2048, 4096, 8192, 16384]
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--turns", type=int, default=15, help="a batch")
    arguments = command_line.parse(
        parser, batch=[64, 128], width=8, options=["outside"], turns=2
    )
    about, found = provenance(PACKAGES), []
    for batch in arguments.batch:
        for row in measure(arguments.options, batch, arguments.width, arguments.turns):
            csv_rows.show(row)
            found.append({**row, **about})
    for row in found:
        row["memory_exponent"] = exponent(
            [other for other in found if other["option"] == row["option"]]
        )
    csv_rows.write(arguments.output, FIELDS, found)


if __name__ == "__main__":
    main()
