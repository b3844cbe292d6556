"""Builds, asks and exports an index, and says what that took on a line of JSON.

python -m benchmarks.scale.index_worker INDEX ITEMS WIDTH
"""

import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf

from benchmarks.common import costs
from benchmarks.common.worker import keep_output_clean, say
from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval

INDEXES = {"ScaNN": ScaNN, "BruteForce": BruteForce}
QUERIES = 20


def unit_vectors(num, width, part=1_000_000):
    rng = np.random.default_rng(0)
    vectors = np.empty((num, width), np.float32)
    for start in range(0, num, part):
        some = vectors[start : start + part]
        some[:] = rng.standard_normal(some.shape, np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return vectors


def measured(name, num, width):
    """Columns of a row: seconds, and MiB beside the embeddings and TensorFlow."""
    vectors, ids = unit_vectors(num, width), tf.range(num, dtype=tf.int64)
    before = costs.resident_mib()
    costs.forget_peak()
    began = costs.now()
    index = INDEXES[name]()
    index.index(vectors, ids)
    columns = {"seconds_to_build": costs.since(began)[0]}
    columns["build_mib"] = costs.peak_mib() - before
    index(tf.constant(vectors[:1]), 10)
    began = costs.now()
    for query in range(QUERIES):
        index(tf.constant(vectors[query : query + 1]), 10)
    columns["query_ms"] = 1000 * costs.since(began)[0] / QUERIES
    tower = tf.keras.layers.Embedding(1_000, width)
    with tempfile.TemporaryDirectory() as folder:
        began = costs.now()
        path = pathlib.Path(folder, "model")
        signature = tf.TensorSpec([None], tf.int64, name="user")
        export_retrieval(path, tower, index, query_signature=signature)
        columns["seconds_to_export"] = costs.since(began)[0]
        sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
        columns["disk_mib"] = sum(sizes) / 2**20
    columns["export_mib"] = costs.peak_mib() - before
    return {"index": name, "items": num, "width": width, **columns}


def main():
    keep_output_clean()
    name, num, width = sys.argv[1:]
    say(**measured(name, int(num), int(width)))


if __name__ == "__main__":
    main()
