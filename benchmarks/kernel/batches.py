"""The batches that the loss is timed on."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Batch:
    """B rows, K extra columns, width d; four rows a user.

    Items follow Zipf and Mandelbrot's law over 100,000 items, the top one with 1% of
    all draws: 0.1% of all pairs are accidental hits, as in real catalogues.
    """

    rows: int
    extra: int
    width: int

    def __post_init__(self):
        rng = np.random.default_rng(0)
        columns = self.rows + self.extra
        share = 1 / np.arange(11, 100_011)
        share /= share.sum()
        self.queries = self._unit(rng, self.rows)
        self.candidates = self._unit(rng, columns)
        ids = rng.choice(len(share), columns, p=share)
        self.ids = ids.astype(np.int64)
        self.q = share[ids].astype(np.float32)
        self.users = rng.integers(0, max(self.rows // 4, 1), self.rows)

    def _unit(self, rng, rows):
        embeddings = rng.normal(size=(rows, self.width)).astype(np.float32)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    @property
    def arrays(self):
        return self.queries, self.candidates, self.ids, self.users, self.q
