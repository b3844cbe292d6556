"""A corpus, queries and results for the tests of `CorpusRecall`."""

import corpus_oracle as oracle
import numpy as np
import tensorflow as tf

from tfrs_negatives.index import BruteForce, ScaNN

N, B, D = 40, 9, 3
KS = (1, 3, 10, 40)
MEASURES = ("recall", "ndcg", "mrr", "hit_rate")


class Problem:
    """Queries with several positives and exclusions, full of ties."""

    def __init__(self, seed=0, strings=False):
        rng = np.random.default_rng(seed)
        # Small whole numbers: products are exact, and ties many.
        self.queries = rng.integers(-1, 2, (B, D)).astype("float32")
        self.candidates = rng.integers(-2, 3, (N, D)).astype("float32")
        # Half of them negative; of strings one is empty.
        numbers = rng.permutation(100)[: N + 5] - 50
        self.ids = numbers.tolist()
        if strings:
            self.ids = ["" if n == self.ids[7] else f"item {n}" for n in self.ids]
        # The last five are unknown to the corpus.
        self.ids, unknown = self.ids[:N], self.ids[N:]
        pool = self.ids + unknown
        self.positives = [
            [pool[i] for i in rng.integers(0, len(pool), size)]
            for size in [0, 1, 1, 2, 4, 4, 3, 2, 1]
        ]
        self.positives[4][1] = self.positives[4][0]
        self.positives[5][2] = unknown[0]
        self.excluded = [
            [pool[i] for i in rng.integers(0, len(pool), size)]
            for size in [3, 0, 7, 12, 1, 30, 2, 5, 2]
        ]
        # A positive that is excluded as well, and an exclusion said twice.
        self.excluded[3][:3] = [self.positives[3][0], unknown[1], self.excluded[3][4]]
        self.weights = rng.uniform(0.5, 2, B)
        self.strings = strings

    def rankings(self, excluded=True):
        return [
            oracle.ranked_ids(
                query,
                self.candidates,
                self.ids,
                set(self.positives[row]),
                set(self.excluded[row]) if excluded else (),
            )
            for row, query in enumerate(self.queries)
        ]

    def ragged(self, lists):
        dtype = tf.string if self.strings else tf.int64
        return tf.ragged.constant(lists, dtype=dtype, row_splits_dtype=tf.int64)

    def dense(self, lists):
        """Filled with ids that the corpus does not have."""
        return self.ragged(lists).to_tensor("none" if self.strings else 999)

    def source(self, kind):
        embeddings = tf.constant(self.candidates)
        ids = tf.constant(self.ids, tf.string if self.strings else tf.int64)
        if kind == "dataset":
            return {
                "candidates": tf.data.Dataset.from_tensor_slices(
                    (ids, embeddings)
                ).batch(7)
            }
        if kind == "array":
            return {"candidates": embeddings.numpy(), "candidate_ids": ids}
        index = {"BruteForce": BruteForce, "ScaNN": ScaNN}[kind]
        return {"candidates": index().index(embeddings, ids)}


def results(metric):
    names = [name.removeprefix(metric.name + "/") for name in metric.names]
    return {n: float(v) for n, v in zip(names, metric.result(), strict=True)}


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
