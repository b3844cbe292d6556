"""What `index.ScaNN` adds to the time of ScaNN's own searcher.

    python benchmarks/index/overhead.py --num-items 100000 1000000

Both search the same candidates with the same settings and parameters, eagerly, in a
`tf.function`, and as the signature of a SavedModel does it (k an input). Ours looks up
ids besides, checks its arguments, and answers from refreshed candidates. The two take
turns; medians.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from corpora import clusters
from scann import scann_ops

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.index import ScaNN

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tf-keras", "keras", "scann", "numpy"
FIELDS = "keras items batch mode raw_ms ours_ms added_ms added_percent".split()
FIELDS += ["raw_cpu_ms", "ours_cpu_ms", "device", "versions", "commit"]
K, ROUNDS = 10, 12


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


def measure(pair, batches, repeats):
    """Median wall and mean CPU milliseconds of both."""
    wall, cpu = [[], []], [0.0, 0.0]
    for search in pair:
        for batch in batches[:20]:
            search(batch)
    for _ in range(ROUNDS):
        for place, search in enumerate(pair):
            busy = time.process_time()
            for i in range(repeats):
                start = time.perf_counter()
                search(batches[i % len(batches)])
                wall[place].append(time.perf_counter() - start)
            cpu[place] += time.process_time() - busy
    return [1e3 * np.median(w) for w in wall], [1e3 * c / ROUNDS / repeats for c in cpu]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "overhead.csv")
    parser.add_argument("--num-items", type=int, nargs="+", default=[100_000])
    arguments = parser.parse_args()

    rows, about = [], provenance(PACKAGES)
    for count in arguments.num_items:
        candidates, queries = clusters(count)
        pairs = searches(candidates, candidates.shape[1])
        for size in (1, 256):
            starts = range(0, 200 * size if size == 1 else 4 * size, size)
            batches = [tf.constant(queries[s : s + size]) for s in starts]
            for mode, pair in pairs.items():
                wall, cpu = measure(pair, batches, 200 if size == 1 else 8)
                added = wall[1] - wall[0]
                row = {
                    "keras": 3 if IS_KERAS_3 else 2,
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
                print(" ".join(map(str, row.values())), flush=True)
                rows.append({**row, **about})
    # All or nothing: the file has a run under each Keras, and no row is ever replaced.
    for row in rows:
        csv_rows.append(arguments.output, FIELDS, row)


if __name__ == "__main__":
    main()
