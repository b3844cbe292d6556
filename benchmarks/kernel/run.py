"""Times the loss kernel against its peers and the physical floor.

    python -m benchmarks.kernel.run

Every subject at every size runs in a fresh process; they take turns of four steps, so
that what else the machine does falls on all alike. Medians go to a CSV, a row a
subject and size, with device, versions and commit. Sizes that the CSV holds
already are not run again, so a sweep can be cut and continued.
"""

import itertools
import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.popularity import COLLISIONS
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import SteppingWorker, WorkerFailed

ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "keras", "keras-rs", "torch"
KERAS_2 = ("ours", "ours_plain", "tfrs", "tfrs_plain", "floor")
# Not run unless asked for: XLA's form of ours, the slower one for most sizes on a CPU.
COMPILED = "ours_compiled"
PEERS = ("keras_rs", "torch_eager", "torch_compiled")
CORRECTED = ("ours", COMPILED, "tfrs", "torch_eager", "torch_compiled")
FIGURES = (
    "subject collisions rows extra width steps memory_mib wall_ms cpu_ms "
    "tfrs_over_this_wall tfrs_over_this_cpu over_floor_wall over_floor_cpu"
).split()
FIELDS = [*FIGURES, *WHERE]
# Steps that follow each other, as in training: one alone would find cold caches and
# sleeping threads, which costs what has many small operations more.
A_TURN = 4
SIZES = "collisions", "rows", "extra", "width"


def start(subject, collisions, rows, extra, width):
    """The process of a subject, or None where it does not run here."""
    worker = SteppingWorker(
        "benchmarks.kernel.subject_worker",
        *(subject, collisions, rows, extra, width),
        environment={
            "TF_USE_LEGACY_KERAS": "1" if subject in (*KERAS_2, COMPILED) else "0",
            "KERAS_BACKEND": "tensorflow",
        },
    )
    try:
        worker.read()
    except WorkerFailed as error:
        print(f"  {subject} does not run here: {error}", flush=True)
        worker.close()
        return None
    return worker


def measure(collisions, rows, extra, width, subjects, steps, limit_gib):
    """Medians of each subject at one size, as a list of CSV rows."""
    workers = {}
    try:
        for subject in subjects:
            # What holds several B x C matrices is not started where it cannot fit.
            matrix_gib = rows * (rows + extra) * 4 / 2**30
            if not subject.startswith("ours") and 5 * matrix_gib > limit_gib:
                continue
            if worker := start(subject, collisions, rows, extra, width):
                workers[subject] = worker
        for turn in range(-(-steps // A_TURN) + 1):
            for subject, worker in list(workers.items()):
                try:
                    worker.step(A_TURN)
                except WorkerFailed as error:
                    print(f"  {subject} failed at {rows} rows: {error}", flush=True)
                    workers.pop(subject).close()
            if not turn:  # The first steps allocate.
                for worker in workers.values():
                    worker.forget_times()
    finally:
        for worker in workers.values():
            worker.close()
    check_agreement(workers)
    return [
        {
            "subject": subject,
            "collisions": collisions,
            "rows": rows,
            "extra": extra,
            "width": width,
            "wall_ms": round(1e3 * worker.median("wall"), 3),
            "cpu_ms": round(1e3 * worker.median("cpu"), 3),
            "memory_mib": round(worker.growth_mib, 1),
            "steps": len(worker.times["wall"]),
            **ratios(worker, workers),
        }
        for subject, worker in workers.items()
    ]


def check_agreement(workers):
    """Raises unless all that compute the corrected loss found the same."""
    values = {
        subject: worker.values[0]
        for subject, worker in workers.items()
        if subject in CORRECTED
    }
    if values and max(values.values()) > 1.001 * min(values.values()):
        raise RuntimeError(f"The subjects do not compute the same loss: {values}")


def ratios(worker, workers):
    def over(one, other, field):
        if one is None or other is None:
            return ""
        return round(one.median(field) / other.median(field), 3)

    tfrs, floor = workers.get("tfrs"), workers.get("floor")
    return {
        "tfrs_over_this_wall": over(tfrs, worker, "wall"),
        "tfrs_over_this_cpu": over(tfrs, worker, "cpu"),
        "over_floor_wall": over(worker, floor, "wall"),
        "over_floor_cpu": over(worker, floor, "cpu"),
    }


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[2**i for i in range(9, 17)]
    )
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--extra", nargs="+", choices=["0", "B"], default=["0", "B"])
    parser.add_argument(
        "--collisions", nargs="+", choices=COLLISIONS, default=COLLISIONS
    )
    parser.add_argument("--subjects", nargs="+", default=[*KERAS_2, *PEERS])
    parser.add_argument("--seconds", type=float, default=20, help="a subject and size")
    parser.add_argument("--memory-gib", type=float, default=16, help="for a peer")
    arguments = command_line.parse(
        parser, batch=[256], width=[8], extra=["0"], collisions=["8%"], seconds=0.1
    )
    about, results = provenance(PACKAGES), csv_rows.read(arguments.output)
    done = {tuple(row[name] for name in SIZES) for row in results}
    for size in itertools.product(
        arguments.collisions, arguments.width, arguments.batch, arguments.extra
    ):
        collisions, width, rows, kind = size
        extra = rows if kind == "B" else 0
        if tuple(map(str, (collisions, rows, extra, width))) in done:
            continue
        # From measurement: about 10 ns of wall time a score for TFRS.
        steps = int(arguments.seconds / (1e-8 * rows * (rows + extra)))
        steps = min(max(steps, 3), 30)
        print(f"{collisions} B={rows} K={extra} d={width}, {steps} steps", flush=True)
        subjects, limit = arguments.subjects, arguments.memory_gib
        for row in measure(collisions, rows, extra, width, subjects, steps, limit):
            results.append({**row, **about})
            csv_rows.show(row, FIGURES)
        csv_rows.write(arguments.output, FIELDS, results)


if __name__ == "__main__":
    main()
