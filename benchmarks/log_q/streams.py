"""Streams of item ids with known probabilities."""

import numpy as np


class ZipfStream:
    """Ids drawn with replacement, the r-th most frequent with q proportional to 1/r.

    Args:
      num_ids: Catalogue size; ids are 0 to num_ids - 1, in no order.
      seed: Seed of the order and of the draws.
    """

    def __init__(self, num_ids, seed):
        self._rng = np.random.default_rng(seed)
        share = 1 / np.arange(1, num_ids + 1)
        self._share = share / share.sum()
        self._cumulative = np.cumsum(self._share)
        self._cumulative /= self._cumulative[-1]
        self.seen = np.zeros(num_ids, bool)
        self.switch()

    def switch(self):
        """Gives every id the probability of another at random."""
        num_ids = len(self._share)
        self._id_of_rank = self._rng.permutation(num_ids)
        self.q = np.empty(num_ids)
        self.q[self._id_of_rank] = self._share

    def ids(self, shape, mark=True):
        """Draws ids, and notes them as having occurred if `mark`."""
        ranks = np.searchsorted(self._cumulative, self._rng.random(shape), "right")
        ids = self._id_of_rank[ranks]
        if mark:
            self.seen[ids.reshape(-1)] = True
        return ids


class BatchesWithoutRepeats:
    """Batches of distinct ids, id i drawn in proportion to (i + 1)^2.

    Successive draws without replacement, as the order of exponential arrival
    times gives them (Efraimidis & Spirakis 2006). `switch` reverses the order.
    """

    def __init__(self, num_ids, batch, seed):
        self._rng = np.random.default_rng(seed)
        self._batch = batch
        self._weights = np.arange(1.0, num_ids + 1) ** 2

    def switch(self):
        self._weights = self._weights[::-1]

    def ids(self, steps):
        """[steps, batch] ids."""
        shape = steps, len(self._weights)
        arrivals = self._rng.exponential(size=shape) / self._weights
        return np.argpartition(arrivals, self._batch, axis=1)[:, : self._batch]

    def proportional(self):
        """B times each id's share: the probability if draws were independent."""
        return self._batch * self._weights / self._weights.sum()

    def inclusion(self, draws=20_000):
        """Share of batches that hold each id, measured on batches of its own."""
        counts = np.zeros(len(self._weights))
        for _ in range(draws // 1000):
            counts += np.bincount(self.ids(1000).reshape(-1), minlength=len(counts))
        return counts / draws
