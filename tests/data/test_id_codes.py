"""Ids as numbers, the same as NumPy's."""

import numpy as np
import pytest

from tfrs_negatives.data.id_codes import codes


@pytest.mark.parametrize(
    "ids",
    [
        [5, -(2**63), 5, 2**62, -1],
        np.array(["b", "", "é", "b", "z", "Z", "😀", "\ufffd"], object),
        np.array(["007", "7", "007"]),
        np.array([], object),
        np.array([], np.int64),
    ],
)
def test_codes_are_those_of_numpy(ids):
    ids = np.asarray(ids)
    distinct, places = codes(ids)
    wanted = np.unique(ids, return_inverse=True)
    assert distinct.tolist() == wanted[0].tolist()
    assert places.tolist() == wanted[1].tolist()
    assert all(type(one) in (int, str) for one in distinct.tolist())
