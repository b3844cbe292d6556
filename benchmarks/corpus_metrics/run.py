"""Times an evaluation over the corpus against `tfrs.metrics.FactorizedTopK`.

    python -m benchmarks.corpus_metrics.run

10,000 queries in batches of 1,000 are ranked among 100,000 and 1,000,000 candidates of
64 dimensions, which a dataset yields in batches of 4,096, for the default ks. TFRS uses
its default, the `Streaming` layer. Every subject has a fresh process; evaluations
alternate, and the medians go to a CSV with device, versions and commit. Memory is how
far peak memory exceeded that in use before the first evaluation, when embeddings of
the dataset were in memory already. Differences are to TFRS by id: without ids it
compares a score with the same score computed in another way, and takes the last bit
for a rank.
"""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.worker_process import SteppingWorker

ROWS = pathlib.Path(__file__).with_name("results.csv")
PACKAGES = "tensorflow", "tf-keras", "tensorflow-recommenders"
SUBJECTS = "ours", "ours_by_id", "ours_all", "tfrs", "tfrs_by_id"
FIGURES = (
    "subject candidates queries evaluations wall_s cpu_s memory_mib "
    "tfrs_over_this_wall tfrs_over_this_cpu largest_difference"
).split()


def measure(num_queries, num_candidates, evaluations):
    """CSV rows of all subjects over one corpus."""
    workers = {}
    try:
        for subject in SUBJECTS:
            workers[subject] = SteppingWorker(
                "benchmarks.corpus_metrics.evaluation_worker",
                *(subject, num_queries, num_candidates),
            )
            workers[subject].read()
        for _ in range(evaluations):
            for worker in workers.values():
                worker.step()
    finally:
        for worker in workers.values():
            worker.close()
    tfrs, exact = workers["tfrs"], workers["tfrs_by_id"].values[0]
    rows = []
    for subject, worker in workers.items():
        wall, cpu = worker.median("wall"), worker.median("cpu")
        # With all measures, hit rates come last.
        pairs = zip(worker.values[0][-len(exact) :], exact, strict=True)
        rows.append(
            {
                "subject": subject,
                "candidates": num_candidates,
                "queries": num_queries,
                "evaluations": evaluations,
                "wall_s": round(wall, 2),
                "cpu_s": round(cpu, 2),
                "memory_mib": round(worker.growth_mib, 1),
                "tfrs_over_this_wall": round(tfrs.median("wall") / wall, 2),
                "tfrs_over_this_cpu": round(tfrs.median("cpu") / cpu, 2),
                "largest_difference": f"{max(abs(a - b) for a, b in pairs):.1e}",
            }
        )
    return rows


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=[100_000, 1_000_000]
    )
    parser.add_argument("--evaluations", type=int, nargs="+", default=[3, 1])
    arguments = command_line.parse(
        parser, queries=100, candidates=[500], evaluations=[1]
    )
    about, results = provenance(PACKAGES), csv_rows.read(arguments.output)
    pairs = zip(arguments.candidates, arguments.evaluations, strict=True)
    for num_candidates, evaluations in pairs:
        results = [r for r in results if int(r["candidates"]) != num_candidates]
        for row in measure(arguments.queries, num_candidates, evaluations):
            csv_rows.show(row)
            results.append({**row, **about})
        csv_rows.write(arguments.output, [*FIGURES, *WHERE], results)


if __name__ == "__main__":
    main()
