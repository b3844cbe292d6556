"""Sets as sorted arrays, against Python's."""

import numpy as np
import pytest

from tfrs_negatives.data.sorted_values import are_among, distinct


@pytest.mark.parametrize("num", [0, 1, 2, 50])
def test_as_sets_of_python_have_it(num):
    rng = np.random.default_rng(num)
    values, others = rng.integers(-20, 20, num), rng.integers(-20, 20, num // 2)
    assert distinct(values).tolist() == sorted(set(values.tolist()))
    found = are_among(values, np.sort(others))
    assert found.tolist() == [one in set(others.tolist()) for one in values.tolist()]
