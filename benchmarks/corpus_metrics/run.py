"""Times an evaluation over the corpus against `tfrs.metrics.FactorizedTopK`.

    python benchmarks/corpus_metrics/run.py

10,000 queries in batches of 1,000 are ranked among 100,000 and 1,000,000 candidates of
64 dimensions, which a dataset yields in batches of 4,096, for the default ks. TFRS uses
its default, the `Streaming` layer. Every subject has a fresh process; evaluations
alternate, and the medians go to a CSV with device, versions and commit. Memory is how
far peak memory exceeded that in use before the first evaluation, when embeddings of
the dataset were in memory already. Differences are to TFRS by id: without ids it
compares a score with the same score computed in another way, and takes the last bit
for a rank.
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

PACKAGES = "tensorflow", "tf-keras", "tensorflow-recommenders"
SUBJECTS = "ours", "ours_by_id", "ours_all", "tfrs", "tfrs_by_id"
FIELDS = (
    "subject candidates queries evaluations wall_s cpu_s memory_mib "
    "tfrs_over_this_wall tfrs_over_this_cpu largest_difference device versions commit"
).split()


class Worker:
    """A subject in a process of its own."""

    def __init__(self, subject, num_queries, num_candidates):
        self.process = subprocess.Popen(
            [
                sys.executable,
                HERE / "worker.py",
                subject,
                str(num_queries),
                str(num_candidates),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "TF_USE_LEGACY_KERAS": "1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
        )
        self.read()
        self.evaluations = []

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("A worker failed: run worker.py by itself to see why.")
        return json.loads(line)

    def evaluate(self):
        self.process.stdin.write("evaluate\n")
        self.process.stdin.flush()
        self.evaluations.append(self.read())

    def median(self, field):
        return statistics.median(e[field] for e in self.evaluations)

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(num_queries, num_candidates, evaluations):
    """CSV rows of all subjects over one corpus."""
    workers = {}
    try:
        for subject in SUBJECTS:
            workers[subject] = Worker(subject, num_queries, num_candidates)
        for _ in range(evaluations):
            for worker in workers.values():
                worker.evaluate()
    finally:
        for worker in workers.values():
            worker.close()
    tfrs, exact = workers["tfrs"], workers["tfrs_by_id"].evaluations[0]["values"]
    rows = []
    for subject, worker in workers.items():
        # With all measures, hit rates come last.
        values = worker.evaluations[0]["values"][-len(exact) :]
        pairs = zip(values, exact, strict=True)
        rows.append(
            {
                "subject": subject,
                "candidates": num_candidates,
                "queries": num_queries,
                "evaluations": evaluations,
                "wall_s": round(worker.median("wall"), 2),
                "cpu_s": round(worker.median("cpu"), 2),
                "memory_mib": round(worker.evaluations[-1]["growth"] / 2**20, 1),
                "tfrs_over_this_wall": round(
                    tfrs.median("wall") / worker.median("wall"), 2
                ),
                "tfrs_over_this_cpu": round(
                    tfrs.median("cpu") / worker.median("cpu"), 2
                ),
                "largest_difference": f"{max(abs(a - b) for a, b in pairs):.1e}",
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results.csv")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=[100_000, 1_000_000]
    )
    parser.add_argument("--evaluations", type=int, nargs="+", default=[3, 1])
    arguments = parser.parse_args()
    about, results = provenance(PACKAGES), csv_rows.read(arguments.output)
    pairs = zip(arguments.candidates, arguments.evaluations, strict=True)
    for num_candidates, evaluations in pairs:
        results = [r for r in results if int(r["candidates"]) != num_candidates]
        for row in measure(arguments.queries, num_candidates, evaluations):
            print(" ".join(str(row[field]) for field in FIELDS[:10]), flush=True)
            results.append({**row, **about})
        csv_rows.write(arguments.output, FIELDS, results)


if __name__ == "__main__":
    main()
