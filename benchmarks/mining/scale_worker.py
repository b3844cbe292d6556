"""Mines with one index in a process of its own, and prints a row of JSON."""

import sys

import numpy as np

from benchmarks.common import costs, worker
from benchmarks.common.clusters import clusters

WIDTH, KNOWN, NUM_NEGATIVES, RANGE_MIN, RANGE_MAX = 64, 20, 50, 100, 500


def build(subject, items):
    if subject == "brute_force":
        from tfrs_negatives import index

        return index.BruteForce().index(items)
    from scann import scann_ops_pybind

    builder = scann_ops_pybind.builder(items, 10, "dot_product")
    builder = builder.tree(1000, 100, training_sample_size=100_000)
    return (
        builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(500).build()
    )


def main(subject, num_items, num_queries):
    from tfrs_negatives import index

    items, queries = clusters(num_items, num_queries, WIDTH)
    known = np.random.default_rng(3).integers(num_items, size=(num_queries, KNOWN))
    start = costs.now()
    built = build(subject, items)
    built_in, _ = costs.since(start)
    costs.forget_peak()
    before, start = costs.resident_mib(), costs.now()
    ids, _ = index.mine_hard_negatives(
        built,
        queries,
        NUM_NEGATIVES,
        positives=known,
        range_min=RANGE_MIN,
        range_max=RANGE_MAX,
        progress=False,
    )
    seconds, cpu = costs.since(start)
    growth = costs.peak_mib() - before
    if (ids.row_lengths().numpy() < NUM_NEGATIVES).any():
        raise SystemExit("Some rows are short: another amount of work.")
    worker.say(
        subject=subject,
        num_items=num_items,
        width=WIDTH,
        num_queries=num_queries,
        build_seconds=f"{built_in:.1f}",
        seconds=f"{seconds:.2f}",
        cpu_seconds=f"{cpu:.2f}",
        before_mib=f"{before:.0f}",
        growth_mib=f"{growth:.0f}",
        matrix_mib=f"{4 * num_queries * num_items / 2**20:.0f}",
    )


if __name__ == "__main__":
    worker.keep_output_clean()
    main(sys.argv[1], *map(int, sys.argv[2:]))
