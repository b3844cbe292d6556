"""Values by group."""

import numpy as np

from benchmarks.common.grouping import by_group, places_within


def test_values_of_each_group_keep_their_order():
    found = by_group(4, np.array([2, 0, 2, 3, 0]), np.array([10, 11, 12, 13, 14]))
    assert [list(values) for values in found] == [[11, 14], [], [10, 12], [13]]


def test_places_within_groups():
    found = places_within(np.array([0, 0, 2, 2, 2, 5]))
    np.testing.assert_array_equal(found, [0, 1, 0, 1, 2, 0])
