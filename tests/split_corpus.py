"""A corpus in parts, and what all of it answers, by loops."""

import numpy as np
import tensorflow as tf

from tfrs_negatives.index import (
    export_live_retrieval,
    export_query_tower,
    load_retrieval,
    shard_query,
)

WIDTH, USERS = 5, 12


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Tower(tf.Module):
    """A user's row of a table; what the user brings is ignored."""

    def __init__(self, seed=2):
        super().__init__()
        self.users = tf.Variable(normal(seed, USERS, WIDTH))

    def __call__(self, features):
        return tf.gather(self.users, features["user"])


SIGNATURE = {
    "user": tf.TensorSpec([None], tf.int64),
    "history": tf.TensorSpec([None, None], tf.string),
}
USERS_TABLE = Tower().users.numpy()


def export_tower(folder, **options):
    options = {"query_signature": SIGNATURE, "history_items": "history", **options}
    optional = {"history": tf.zeros([0], tf.string)}
    return export_query_tower(folder, Tower(), optional_features=optional, **options)


def parts_of(num_items, num_shards, rng):
    """Rows of each shard, uneven."""
    ends = np.sort(rng.choice(np.arange(1, num_items), num_shards - 1, replace=False))
    return np.split(rng.permutation(num_items), ends)


class Corpus:
    """Items with titles, prices and log q."""

    def __init__(self, seed, num_items):
        rng = np.random.default_rng(seed)
        self.vectors = normal(seed, num_items, WIDTH)
        self.ids = np.array([f"é {n}" for n in range(num_items)], object)
        self.titles = [f"title {n}" for n in range(num_items)]
        self.prices = rng.integers(0, 100, num_items).tolist()
        counts = rng.integers(1, 1000, num_items)
        self.log_q = np.log(counts / counts.sum())

    def export(self, folder, tower, rows, **options):
        """A shard of some rows, as a live index."""
        return export_live_retrieval(
            folder,
            ids=self.ids[rows].tolist(),
            embeddings=self.vectors[rows],
            payload={"title": [self.titles[row] for row in rows]},
            attributes={"price": [self.prices[row] for row in rows]},
            popularity=self.log_q[rows],
            **options,
            **shard_query(tower),
        )

    def best(self, query, k, below=None, without=(), discount=0.0, rows=None):
        """Ids, scores and titles, by sorting."""
        found = []
        for row in range(len(self.ids)) if rows is None else rows:
            if self.ids[row] in without:
                continue
            if below is not None and not self.prices[row] < below:
                continue
            score = float(np.float64(query) @ np.float64(self.vectors[row]))
            score -= discount * float(self.log_q[row])
            found.append((-score, self.ids[row], self.titles[row]))
        found.sort()
        ids, titles = [[one[n] for one in found[:k]] for n in (1, 2)]
        return ids, [-one[0] for one in found[:k]], titles


def loaded(tower, shards, seconds=60.0):
    """The model over shards in this process, which a busy machine may let wait."""
    parts = [load_retrieval(shard) for shard in shards]
    return load_retrieval(tower, shards=parts, shard_seconds=seconds)


def check(answer, row, expected):
    """Asserts that a row of an answer is what a loop found, and ends in nothing."""
    ids, scores, titles = expected
    found = {
        name: value[row].numpy() if tf.is_tensor(value) else np.array(value[row])
        for name, value in answer.items()
    }
    size = len(ids)
    # JSON has null for what is not finite.
    filled = [score is not None and np.isfinite(score) for score in found["scores"]]
    assert filled == [place < size for place in range(len(filled))]
    texts = {n: [_text(each) for each in found[n][:size]] for n in ("ids", "title")}
    assert texts == {"ids": ids, "title": titles}
    scored = np.float64(found["scores"][:size])
    np.testing.assert_allclose(scored, scores, rtol=1e-4, atol=1e-4)


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
