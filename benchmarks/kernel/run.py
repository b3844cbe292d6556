"""Times the loss kernel against its peers and the physical floor.

    python benchmarks/kernel/run.py --output benchmarks/kernel/results.csv

Every subject at every size runs in a fresh process; their steps alternate, so
that what else the machine does falls on all alike. Medians go to a CSV, a row a
subject and size, with device, versions and commit. Sizes that the CSV holds
already are not run again, so a sweep can be cut and continued.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "keras", "keras-rs", "torch"
KERAS_2 = ("ours", "ours_plain", "tfrs", "tfrs_plain", "floor")
PEERS = ("keras_rs", "torch_eager", "torch_compiled")
FIELDS = (
    "subject rows extra width steps memory_mib wall_ms cpu_ms tfrs_over_this_wall "
    "tfrs_over_this_cpu over_floor_wall over_floor_cpu device versions commit"
).split()


class Worker:
    """A subject in a process of its own."""

    def __init__(self, subject, rows, extra, width):
        environment = {
            **os.environ,
            "TF_USE_LEGACY_KERAS": "1" if subject in KERAS_2 else "0",
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                HERE / "worker.py",
                subject,
                *map(str, (rows, extra, width)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.steps = []

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        figures = self.read()
        if figures:
            self.steps.append(figures)
        return figures

    def close(self):
        self.process.kill()
        self.process.wait()

    def median(self, field):
        # The first step allocates.
        timed = self.steps[1:] or self.steps
        return statistics.median(step[field] for step in timed)


def measure(rows, extra, width, subjects, steps, limit_gib):
    """Medians of each subject at one size, as a list of CSV rows."""
    workers = {}
    for subject in subjects:
        # What holds several B x C matrices is not started where it cannot fit.
        matrix_gib = rows * (rows + extra) * 4 / 2**30
        if not subject.startswith("ours") and 5 * matrix_gib > limit_gib:
            continue
        worker = Worker(subject, rows, extra, width)
        if worker.read() is None:
            print(f"  {subject} does not run here", flush=True)
            worker.close()
            continue
        workers[subject] = worker
    try:
        for _ in range(steps + 1):
            for subject, worker in list(workers.items()):
                if worker.step() is None:
                    print(f"  {subject} failed at {rows} rows", flush=True)
                    workers.pop(subject).close()
    finally:
        for worker in workers.values():
            worker.close()
    check_agreement(workers)
    return [
        {
            "subject": subject,
            "rows": rows,
            "extra": extra,
            "width": width,
            "wall_ms": round(1e3 * worker.median("wall"), 3),
            "cpu_ms": round(1e3 * worker.median("cpu"), 3),
            "memory_mib": round(max(s["growth"] for s in worker.steps) / 2**20, 1),
            "steps": steps,
            **ratios(worker, workers),
        }
        for subject, worker in workers.items()
    ]


def check_agreement(workers):
    """Raises unless all that compute the corrected loss found the same."""
    corrected = ("ours", "tfrs", "torch_eager", "torch_compiled")
    values = {
        subject: worker.steps[0]["value"]
        for subject, worker in workers.items()
        if subject in corrected
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results.csv")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[2**i for i in range(9, 17)]
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--extra", nargs="+", choices=["0", "B"], default=["0", "B"])
    parser.add_argument("--subjects", nargs="+", default=[*KERAS_2, *PEERS])
    parser.add_argument("--seconds", type=float, default=20, help="a subject and size")
    parser.add_argument("--memory-gib", type=float, default=16, help="for a peer")
    arguments = parser.parse_args()

    about, results = provenance(PACKAGES), csv_rows.read(arguments.output)
    done = {tuple(map(int, (r["rows"], r["extra"], r["width"]))) for r in results}
    for width in arguments.widths:
        for rows in arguments.rows:
            for extra in arguments.extra:
                columns = rows if extra == "0" else 2 * rows
                if (rows, columns - rows, width) in done:
                    continue
                # From measurement: about 10 ns of wall time a score for TFRS.
                steps = int(arguments.seconds / (1e-8 * rows * columns))
                steps = min(max(steps, 3), 30)
                print(f"B={rows} K={extra} d={width}, {steps} steps", flush=True)
                for result in measure(
                    rows,
                    columns - rows,
                    width,
                    arguments.subjects,
                    steps,
                    arguments.memory_gib,
                ):
                    results.append({**result, **about})
                    print("  " + " ".join(str(result[f]) for f in FIELDS[:12]))
                csv_rows.write(arguments.output, FIELDS, results)


if __name__ == "__main__":
    main()
