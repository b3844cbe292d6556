"""Known positives against a set of pairs."""

import numpy as np

from tfrs_negatives.audit.positive_pairs import PositivePairs


def test_pairs_equal_a_set(make_table):
    table = make_table(seed=3)
    pairs = set(zip(table.user.tolist(), table.item.tolist(), strict=True))
    assert len(pairs) < len(table)  # Some are there twice.
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    assert len(known) == len(pairs)
    everything = [
        (u, i) for u in range(table.num_users) for i in range(table.num_items)
    ]
    users, items = np.array(everything).T
    found = known.contain(users, items)
    assert found.tolist() == [pair in pairs for pair in everything]


def test_items_of_users_in_any_order_and_repeated(make_table):
    table = make_table(seed=4)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    asked = [5, 0, 5, 8]
    places, items = known.of(np.array(asked))
    for place, user in enumerate(asked):
        expected = np.unique(table.item[table.user == user])
        np.testing.assert_array_equal(np.sort(items[places == place]), expected)


def test_no_pairs():
    known = PositivePairs(np.zeros(0, int), np.zeros(0, int), 3, 4)
    assert len(known) == 0
    assert not known.contain(np.array([0, 2]), np.array([1, 3])).any()
    assert known.of(np.array([1, 2]))[1].size == 0
