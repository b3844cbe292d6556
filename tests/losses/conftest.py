"""The batch of the tests of `SampledSoftmax`."""

import numpy as np
import pytest
from softmax_cases import B, C, D

from tfrs_negatives.losses import dropped_pairs


@pytest.fixture
def batch():
    rng = np.random.default_rng(7)
    return {
        "queries": rng.normal(size=(B, D)),
        "heads": rng.normal(size=(B, 2, D)),
        "candidates": rng.normal(size=(C, D)),
        "log_q": np.log(rng.uniform(0.01, 0.6, C)),
        "weights": rng.uniform(0.2, 2.0, B),
        "keys": np.array([0, 1, 0, 2, 1]),
        "ids": np.array([3, 4, 5, 3, 6, 4, 7, 3]),
    }


@pytest.fixture
def compare_from(monkeypatch):
    """Function of the share of pairs from which they are compared: 0 always does."""

    def patch(share):
        for name in ("_MANY_PAIRS", "_MANY_LISTED"):
            monkeypatch.setattr(dropped_pairs, name, share)
        monkeypatch.setattr(dropped_pairs, "_OWN_LISTS", 0.0)

    return patch
