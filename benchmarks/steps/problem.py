"""The rows, tables and settings that all whole steps are timed on."""

import dataclasses
import itertools

import numpy as np

TEMPERATURE = 0.1
LEARNING_RATE = 0.001
NUM_ROWS = 2**22


@dataclasses.dataclass(frozen=True)
class Problem:
    """Two tables, batches of B rows and K uniform negatives; four rows a user.

    Items follow Zipf and Mandelbrot's law, as in `benchmarks.kernel.batches`.
    """

    users: int = 1_000_000
    items: int = 300_000
    width: int = 64
    batch: int = 8192
    negatives: int = 8192
    rows: int = NUM_ROWS

    def share(self):
        """[items], the probability that a row holds the item."""
        share = 1 / np.arange(11, self.items + 11)
        return share / share.sum()

    def columns(self):
        """{"user": [rows], "item": [rows]}, int64: requests of four rows."""
        rng = np.random.default_rng(0)
        users = rng.integers(self.users, size=-(-self.rows // 4)).repeat(4)
        items = rng.choice(self.items, self.rows, p=self.share())
        return {"user": users[: self.rows], "item": items.astype(np.int64)}

    def batches_of_rows(self):
        """Numbers of rows [B], without end: whole requests, in random order."""
        rng = np.random.default_rng(0)
        requests, of_batch = self.rows // 4, self.batch // 4
        while True:
            order = rng.permutation(requests)[: requests // of_batch * of_batch]
            rows = 4 * order[:, np.newaxis] + np.arange(4)
            yield from rows.reshape(-1, self.batch)

    def batches_in_memory(self):
        """Some batches with negatives, more than a cache holds the rows of."""
        rng, columns = np.random.default_rng(1), self.columns()
        return [
            {
                **{name: ids[rows] for name, ids in columns.items()},
                "negatives": rng.integers(self.items, size=self.negatives),
            }
            for rows in itertools.islice(self.batches_of_rows(), 32)
        ]

    def tables(self):
        """Both tables' first values, float32: all subjects start alike."""
        rng = np.random.default_rng(2)
        return [
            0.05 * rng.standard_normal((size, self.width), dtype=np.float32)
            for size in (self.users, self.items)
        ]

    def log_q(self):
        """[items], log of how likely a column of a batch is the item, known exactly."""
        columns = self.batch + self.negatives
        drawn = self.batch * self.share() + self.negatives / self.items
        return np.log(drawn / columns).astype(np.float32)
