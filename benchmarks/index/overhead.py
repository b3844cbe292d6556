"""What `index.ScaNN` adds to the time of ScaNN's own searcher.

    python -m benchmarks.index.overhead --num-items 100000 1000000

Both search the same candidates with the same settings and parameters, eagerly, in a
`tf.function`, and as the signature of a SavedModel does it (k an input). Ours looks up
ids besides, checks its arguments, and answers from refreshed candidates. The two take
turns; medians. The CSV has a run under each Keras: TF_USE_LEGACY_KERAS=0 is Keras 3.
"""

import pathlib

import numpy as np
import tensorflow as tf
from scann import scann_ops

from benchmarks.common import command_line, costs, csv_rows
from benchmarks.common.clusters import clusters
from benchmarks.common.keras_version import KERAS
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from tfrs_negatives.index import ScaNN

ROWS = pathlib.Path(__file__).with_name("overhead.csv")
PACKAGES = "tensorflow", "tf-keras", "keras", "scann", "numpy"
FIGURES = "keras items batch mode raw_ms ours_ms added_ms added_percent".split()
FIGURES += ["raw_cpu_ms", "ours_cpu_ms"]
K = 10


def searches(candidates, width):
    """Pairs of functions from queries to an answer, by mode."""
    ours = ScaNN(k=K).index(candidates)
    searcher = ours.searcher
    settings = searcher.settings()
    raw = (
        scann_ops.builder(tf.constant(candidates), K, "dot_product")
        .tree(settings["num_leaves"], settings["num_leaves_to_search"])
        .score_ah(settings["dimensions_per_block"])
        .reorder(settings["num_reordering_candidates"])
        .build()
    )
    module = raw.serialize_to_module()
    queries, k = tf.TensorSpec([None, width]), tf.TensorSpec([], tf.int32)

    @tf.function(input_signature=[queries])
    def raw_function(q):
        return scann_ops.searcher_from_module(module).search_batched_parallel(q, K)

    @tf.function(input_signature=[queries])
    def our_function(q):
        return ours(q)

    @tf.function(input_signature=[queries, k])
    def raw_signature(q, k):
        return scann_ops.searcher_from_module(module).search_batched_parallel(q, k)

    @tf.function(input_signature=[queries, k])
    def our_signature(q, k):
        scores, positions = searcher.retrieve(q, k)
        return scores, searcher.identifiers.gather(positions)

    ten = tf.constant(K)
    return {
        "eager": (lambda q: raw.search_batched_parallel(q, K), ours),
        "function": (raw_function, our_function),
        "signature": (lambda q: raw_signature(q, ten), lambda q: our_signature(q, ten)),
    }


def measure(pair, batches, repeats, rounds):
    """Median wall and mean CPU milliseconds of both."""
    wall, cpu = [[], []], [0.0, 0.0]
    for search in pair:
        for batch in batches[:20]:
            search(batch)
    for _ in range(rounds):
        for place, search in enumerate(pair):
            for i in range(repeats):
                start = costs.now()
                search(batches[i % len(batches)])
                seconds, busy = costs.since(start)
                wall[place].append(seconds)
                cpu[place] += busy
    return [1e3 * np.median(w) for w in wall], [1e3 * c / rounds / repeats for c in cpu]


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--num-items", type=int, nargs="+", default=[100_000])
    parser.add_argument("--rounds", type=int, default=12)
    arguments = command_line.parse(parser, num_items=[2_000], rounds=1)
    rows, about = [], provenance(PACKAGES)
    for count in arguments.num_items:
        candidates, queries = clusters(count, 3_000)
        pairs = searches(candidates, candidates.shape[1])
        for size in (1, 256):
            starts = range(0, 200 * size if size == 1 else 4 * size, size)
            batches = [tf.constant(queries[s : s + size]) for s in starts]
            for mode, pair in pairs.items():
                repeats = 200 if size == 1 else 8
                wall, cpu = measure(pair, batches, repeats, arguments.rounds)
                added = wall[1] - wall[0]
                row = {
                    "keras": KERAS,
                    "items": count,
                    "batch": size,
                    "mode": mode,
                    "raw_ms": f"{wall[0]:.3f}",
                    "ours_ms": f"{wall[1]:.3f}",
                    "added_ms": f"{added:.3f}",
                    "added_percent": f"{100 * added / wall[0]:.1f}",
                    "raw_cpu_ms": f"{cpu[0]:.3f}",
                    "ours_cpu_ms": f"{cpu[1]:.3f}",
                }
                csv_rows.show(row)
                rows.append({**row, **about})
    # All or nothing: the file has a run under each Keras, and no row is ever replaced.
    for row in rows:
        csv_rows.append(arguments.output, [*FIGURES, *WHERE], row)


if __name__ == "__main__":
    main()
