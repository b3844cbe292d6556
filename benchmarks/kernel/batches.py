"""The batches that the loss is timed on."""

import dataclasses

import numpy as np

#: The shares of colliding pairs that there are batches of.
COLLISIONS = "0.1%", "8%"


@dataclasses.dataclass
class Batch:
    """B rows, K extra columns, width d; four rows a user.

    Of all pairs as many as `collisions` says are accidental hits:

    * "0.1%": items follow Zipf and Mandelbrot's law over 100,000 items, the top one
      with 1% of all draws.
    * "8%": they follow Zipf's law with exponent 1.3, the top one with a quarter of all
      draws, as where all requests of a batch are of an hour, or one product leads.
    """

    rows: int
    extra: int
    width: int
    collisions: str = "0.1%"

    def __post_init__(self):
        rng = np.random.default_rng(0)
        columns = self.rows + self.extra
        share = {
            "0.1%": 1 / np.arange(11, 100_011),
            "8%": np.arange(1, 1_000_001) ** -1.3,
        }[self.collisions]
        share /= share.sum()
        self.queries = self._unit(rng, self.rows)
        self.candidates = self._unit(rng, columns)
        ids = rng.choice(len(share), columns, p=share)
        self.ids = ids.astype(np.int64)
        # TFRS takes what is less for a millionth.
        self.q = np.maximum(share[ids], 1e-6).astype(np.float32)
        self.users = rng.integers(0, max(self.rows // 4, 1), self.rows)

    def _unit(self, rng, rows):
        embeddings = rng.normal(size=(rows, self.width)).astype(np.float32)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    @property
    def arrays(self):
        return self.queries, self.candidates, self.ids, self.users, self.q
