"""Random batches for the tests of metrics of negatives; NumPy alone."""

import numpy as np

B, C, M, D, H, ITEMS = 10, 13, 3, 3, 2, 8
SOURCES = ["in_batch", "extra", "memory", "per_row"]
COUNTS = [9, 1, 7, 3, 3, 2, 8, 1]
POPULAR = {0, 6}  # The top quarter.


def make_batch(seed, heads=False):
    rng = np.random.default_rng(seed)
    score_mask = rng.random((B, C)) < 0.7
    score_mask[np.arange(B), np.arange(B)] = True
    return {
        "queries": rng.normal(size=(B, H, D) if heads else (B, D)),
        "candidates": rng.normal(size=(C, D)),
        "negatives": rng.normal(size=(B, M, D)),
        "ids": rng.integers(0, ITEMS, C),
        "negative_ids": rng.integers(0, ITEMS, (B, M)),
        "negative_mask": rng.random((B, M)) < 0.8,
        "user": rng.integers(0, 5, B),
        "request": rng.integers(0, 3, B),
        "known": rng.integers(-1, ITEMS, (B, 2)),
        "measured": rng.integers(-1, ITEMS, (B, 3)),
        "q": rng.uniform(0.05, 0.3, ITEMS),
        "weights": rng.uniform(0.5, 2, B),
        "labels": rng.integers(0, 2, B),
        "score_mask": score_mask,
    }
