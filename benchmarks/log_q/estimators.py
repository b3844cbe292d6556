"""The estimators of log q that are compared, each with one interface.

`learn(batches)` takes [steps, B] ids, `log_q(ids)` gives log q up to a constant,
`state_bytes` is what training has to keep. Sketches hash by a table of random
numbers, the ideal hash, whose memory is not counted.
"""

import numpy as np


class Streaming:
    """`layers.StreamingFrequency`, its steps in one graph."""

    def __init__(self, num_ids, seed, **options):
        import tensorflow as tf

        from tfrs_negatives.layers import StreamingFrequency

        self.layer = StreamingFrequency(seed=seed, **options)
        self.layer(tf.constant([0], tf.int64))

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)])
        def learn(batches):
            for batch in batches:
                self.layer(batch, training=True)

        self._learn = learn
        self._look_up = tf.function(
            self.layer, input_signature=[tf.TensorSpec([None], tf.int64)]
        )

    def learn(self, batches):
        self._learn(batches)

    def log_q(self, ids):
        return self._look_up(ids).numpy().astype(np.float64)

    @property
    def state_bytes(self):
        variables = [np.asarray(v) for v in self.layer.variables]
        return sum(v.nbytes for v in variables if v.ndim)


class Published:
    """Algorithm 2 of Yi et al. (RecSys 2019) taken at its word; D starts at 100.

    A step for each distinct id of a batch, or (`repeats`) for each occurrence,
    one after the other, time in batches. Of the k steps that a bucket takes at one
    time the first sees the gap and the others none:
    (1-a)^k D + a (1-a)^(k-1) gap.
    """

    def __init__(self, num_ids, seed, num_buckets, repeats=False, rate=0.01):
        rng = np.random.default_rng([seed, 1])
        self._bucket = rng.integers(num_buckets, size=num_ids, dtype=np.int32)
        self._last = np.zeros(num_buckets, np.int64)
        self._gap = np.full(num_buckets, 100.0, np.float32)
        self._repeats, self._rate, self._now = repeats, rate, 0

    def learn(self, batches):
        for batch in batches:
            self._now += 1
            if not self._repeats:
                batch = np.unique(batch)
            places, steps = np.unique(self._bucket[batch], return_counts=True)
            keep = (1 - self._rate) ** (steps - 1)
            gap = self._now - self._last[places]
            self._gap[places] = keep * (
                (1 - self._rate) * self._gap[places] + self._rate * gap
            )
            self._last[places] = self._now

    def log_q(self, ids):
        return -np.log(self._gap[self._bucket[ids]].astype(np.float64))

    @property
    def state_bytes(self):
        return self._last.nbytes + self._gap.nbytes


class PerDraw:
    """Reads another's 1/D as the probability that B draws hit the id at all.

    1 - (1 - 1/D)^(1/B), the best that can be made of it. The float32 state cannot
    tell D from 1 below 1 + 2^-23, so neither can the reading.
    """

    def __init__(self, published, batch):
        self._published, self._batch = published, batch

    def learn(self, batches):
        pass  # The other one learns.

    def log_q(self, ids):
        hit = np.minimum(np.exp(self._published.log_q(ids)), 1 - 2.0**-23)
        return np.log(-np.expm1(np.log1p(-hit) / self._batch))

    @property
    def state_bytes(self):
        return self._published.state_bytes


class CountMin:
    """Count-min sketch with conservative update (Estan & Varghese 2002).

    Depth 4, float32 cells. With a horizon of T examples, counts fade by
    exp(-1/T) an example: increments grow instead, so that no cell is touched.
    """

    def __init__(self, num_ids, seed, num_bytes, horizon=np.inf, depth=4):
        rng = np.random.default_rng([seed, 2])
        width = num_bytes // (4 * depth)
        self._places = [
            rng.integers(width, size=num_ids, dtype=np.int32) for _ in range(depth)
        ]
        self._cells = np.zeros((depth, width), np.float32)
        self._horizon, self._age = horizon, 0.0

    def learn(self, batches):
        for batch in batches:
            self._age += batch.size / self._horizon
            if self._age > 8:
                self._cells *= np.float32(np.exp(-self._age))
                self._age = 0.0
            ids, counts = np.unique(batch, return_counts=True)
            places = [places[ids] for places in self._places]
            target = self._estimate(places) + (counts * np.exp(self._age)).astype("f4")
            for cells, place in zip(self._cells, places, strict=True):
                np.maximum.at(cells, place, target)

    def log_q(self, ids):
        return np.log(self._estimate([places[ids] for places in self._places]))

    def _estimate(self, places):
        rows = zip(self._cells, places, strict=True)
        return np.min([cells[place] for cells, place in rows], axis=0)

    @property
    def state_bytes(self):
        return self._cells.nbytes


class ExactCounts:
    """A counter an id; with a horizon of T examples it fades by exp(-1/T) each."""

    def __init__(self, num_ids, horizon=np.inf):
        self._counts = np.zeros(num_ids)
        self._horizon, self._age = horizon, 0.0

    def learn(self, batches):
        for batch in batches:
            self._age += batch.size / self._horizon
            if self._age > 100:
                self._counts *= np.exp(-self._age)
                self._age = 0.0
            np.add.at(self._counts, batch, np.exp(self._age))

    def log_q(self, ids):
        # What faded below the smallest float is kept finite.
        return np.log(np.maximum(self._counts[ids], np.finfo(np.float64).tiny))

    @property
    def state_bytes(self):
        return self._counts.nbytes


def build_all(num_ids, batch, seed, num_buckets, horizon):
    """The subjects of the accuracy benchmark by name.

    All have the same memory but the exact ones, the layer with a bucket an id
    ("dense") and, on the stream that has to be met, the layer in its default size.

    Args:
      num_ids: Catalogue size.
      batch: Rows B of a batch.
      seed: Seed of the hashes.
      num_buckets: Buckets of all hashes of an estimator together.
      horizon: Examples after which the forgetting counters have kept 1/e.
    """
    memory = 16 * num_buckets
    published = Published(num_ids, seed, num_buckets)
    subjects = {
        "count": Streaming(num_ids, seed, num_buckets=num_buckets, num_hashes=1),
        "count, 2 hashes": Streaming(
            num_ids, seed, num_buckets=num_buckets // 2, num_hashes=2
        ),
        "count, 4 hashes": Streaming(
            num_ids, seed, num_buckets=num_buckets // 4, num_hashes=4
        ),
        "count, dense": Streaming(num_ids, seed, num_buckets=num_ids, dense=True),
        "count, published start": Streaming(
            num_ids,
            seed,
            num_buckets=num_buckets,
            num_hashes=1,
            initial_gap=100.0 * batch,
        ),
        "published": published,
        "published, per draw": PerDraw(published, batch),
        "published, each repeat": Published(num_ids, seed, num_buckets, repeats=True),
        "count-min": CountMin(num_ids, seed, memory),
        "count-min, forgetting": CountMin(num_ids, seed, memory, horizon),
        "exact counts": ExactCounts(num_ids),
        "exact counts, forgetting": ExactCounts(num_ids, horizon),
    }
    if num_ids == 2_000 and batch == 1024:
        subjects["count, default size"] = Streaming(num_ids, seed)
        subjects["count, dense, published start"] = Streaming(
            num_ids, seed, num_buckets=num_ids, dense=True, initial_gap=100.0 * batch
        )
    return subjects
