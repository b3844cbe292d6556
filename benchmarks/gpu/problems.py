"""The batches that programs are run on, made by seed on both machines.

NumPy alone: what is carried to the machine with the GPU is programs, not their inputs.
"""

import dataclasses
import functools
import zlib

import numpy as np

from benchmarks.common.popularity import LEAST_Q, share_of_draws

# Negatives of each row alone, and hard negatives kept of all columns.
ROW_NEGATIVES = 16
HARD_NEGATIVES = 100


@dataclasses.dataclass(frozen=True)
class Problem:
    """B rows of B / 4 users, K extra columns, width d, in float32.

    Attributes:
      rows, extra, width: B, K and d.
      collisions: One of `benchmarks.common.popularity.COLLISIONS`.
    """

    rows: int
    extra: int
    width: int
    collisions: str = "0.1%"

    def inputs(self, seed, names):
        """Arrays by name; those of `names` alone, the same whichever others there are.

        * queries [B, d], candidates [B + K, d]: of length 1;
        * ids [B + K], users [B], log_q [B + K], of q no less than TFRS takes;
        * negatives [B, M, d], negative_ids, negative_log_q [B, M];
        * distinct_queries [B / 4, d], query_rows [B], distinct_candidates [V, d],
          candidate_rows [B + K]: of a batch sorted by user, whose `sorted_users` [B]
          have a query each and whose items have an embedding each.
        """
        made = _Inputs(self, seed)
        return {name: getattr(made, name) for name in names}

    @functools.cached_property
    def num_distinct_items(self):
        """V: room for the distinct items of a batch of any seed, and hardly more."""
        columns = self.rows + self.extra
        expected = np.sum(1 - (1 - self.share) ** columns)
        return min(columns, int(expected + 6 * np.sqrt(expected)) + 1)

    @functools.cached_property
    def share(self):
        """[items], how often each occurs."""
        return share_of_draws(self.collisions)


def checksum(inputs):
    """What tells whether both machines made the same arrays."""
    total = 0
    for name in sorted(inputs):
        total = zlib.crc32(np.ascontiguousarray(inputs[name]), total)
    return total


class _Inputs:
    def __init__(self, problem, seed):
        self._problem, self._seed = problem, seed

    def _rng(self, place):
        return np.random.default_rng([self._seed, place])

    def _unit(self, place, *shape):
        made = self._rng(place).standard_normal((*shape, self._problem.width))
        made = made.astype(np.float32)
        return made / np.linalg.norm(made, axis=-1, keepdims=True)

    def _draw(self, place, *shape):
        # By inverting the distribution: `choice` may differ between versions.
        uniform = self._rng(place).random(shape)
        share = self._problem.share
        return np.searchsorted(np.cumsum(share), uniform).clip(0, len(share) - 1)

    def _log_q(self, ids):
        q = np.maximum(self._problem.share[ids], LEAST_Q)
        return np.log(q).astype(np.float32)

    @property
    def _columns(self):
        return self._problem.rows + self._problem.extra

    @property
    def _num_users(self):
        return max(self._problem.rows // 4, 1)

    @property
    def queries(self):
        return self._unit(0, self._problem.rows)

    @property
    def candidates(self):
        return self._unit(1, self._columns)

    @functools.cached_property
    def ids(self):
        return self._draw(2, self._columns).astype(np.int64)

    @property
    def log_q(self):
        return self._log_q(self.ids)

    @property
    def users(self):
        return self._rng(3).integers(0, self._num_users, self._problem.rows)

    @property
    def negatives(self):
        return self._unit(4, self._problem.rows, ROW_NEGATIVES)

    @functools.cached_property
    def negative_ids(self):
        return self._draw(5, self._problem.rows, ROW_NEGATIVES).astype(np.int64)

    @property
    def negative_log_q(self):
        return self._log_q(self.negative_ids)

    @functools.cached_property
    def query_rows(self):
        rows = np.arange(self._problem.rows, dtype=np.int32)
        return np.minimum(rows // 4, self._num_users - 1)

    @property
    def sorted_users(self):
        return self.query_rows.astype(np.int64)

    @property
    def distinct_queries(self):
        return self._unit(6, self._num_users)

    @property
    def candidate_rows(self):
        distinct, rows = np.unique(self.ids, return_inverse=True)
        most = self._problem.num_distinct_items
        if len(distinct) > most:
            raise ValueError(
                f"{len(distinct)} distinct items: there is room for {most}."
            )
        return rows.astype(np.int32)

    @property
    def distinct_candidates(self):
        return self._unit(7, self._problem.num_distinct_items)
