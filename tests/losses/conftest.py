"""The batch of the tests of `SampledSoftmax`."""

import numpy as np
import pytest
from softmax_cases import B, C, D


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
