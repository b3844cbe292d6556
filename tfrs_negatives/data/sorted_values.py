"""Sets as sorted arrays.

NumPy's own `unique` and `isin` are several times slower for millions of integers: where
no places are asked for, they hash (NumPy 2.3 and later).
"""

from __future__ import annotations

import numpy as np


def distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending.

    Args:
      values: [n] integers.
    """
    values = np.sort(values)
    is_new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return values[is_new]


def are_among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[n] bool: which of the values are among others.

    Args:
      values: [n] integers; fast if they ascend.
      others: [m] integers, ascending.
    """
    if not len(others):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(others, values), len(others) - 1)
    return others[places] == values
