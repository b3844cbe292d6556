"""The batches that the loss is timed on."""

import dataclasses

import numpy as np

from benchmarks.common.popularity import LEAST_Q, share_of_draws


@dataclasses.dataclass
class Batch:
    """B rows, K extra columns, width d; four rows a user.

    Of all pairs as many as `collisions` says are accidental hits; see
    `common.popularity`.
    """

    rows: int
    extra: int
    width: int
    collisions: str = "0.1%"

    def __post_init__(self):
        rng = np.random.default_rng(0)
        columns = self.rows + self.extra
        share = share_of_draws(self.collisions)
        self.queries = self._unit(rng, self.rows)
        self.candidates = self._unit(rng, columns)
        ids = rng.choice(len(share), columns, p=share)
        self.ids = ids.astype(np.int64)
        self.q = np.maximum(share[ids], LEAST_Q).astype(np.float32)
        self.users = rng.integers(0, max(self.rows // 4, 1), self.rows)

    def _unit(self, rng, rows):
        embeddings = rng.normal(size=(rows, self.width)).astype(np.float32)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    @property
    def arrays(self):
        return self.queries, self.candidates, self.ids, self.users, self.q
