"""Whether rows of one time see those above them, by how their items are ordered."""

import numpy as np
import pytest

from tfrs_negatives.recommender.interaction_rows import Window
from tfrs_negatives.recommender.tie_order import TieOrder


def window(item, time=None, user=None):
    """Rows of one user at one time, unless told otherwise, in the table's order."""
    number = len(item)
    zeros = np.zeros(number, np.int64)
    return Window(
        row=np.arange(number),
        user=zeros if user is None else np.asarray(user),
        item=np.asarray(item),
        request=zeros,
        time=zeros if time is None else np.asarray(time),
        title=None,
    )


def ties_of(*windows):
    order = TieOrder()
    for one in windows:
        order.add(one)
    return order.ties


def test_rows_in_any_order_see_those_above():
    # Of 4,999 pairs half ascend: 75% would be 35 standard deviations away.
    items = np.random.default_rng(0).integers(0, 500, 5000)
    assert ties_of(window(items)) == "above"
    assert ties_of(window(items[:2500]), window(items[2500:])) == "above"


@pytest.mark.parametrize("step", [1, -1])
def test_sorted_items_are_unseen(step):
    items = np.arange(100)[::step]
    assert ties_of(window(items)) == "unseen"
    # Numbers that were sorted as such, and are numbered as strings.
    as_text = np.unique(items.astype(str), return_inverse=True)[1]
    assert ties_of(window(as_text)) == "unseen"
    # One basket after the other, each sorted.
    baskets = np.tile(np.arange(10)[::step], 10)
    assert ties_of(window(baskets, time=np.repeat(np.arange(10), 10))) == "unseen"
    users = np.repeat(np.arange(10), 10)
    assert ties_of(window(baskets, user=users)) == "unseen"


def test_pairs_of_other_times_users_and_of_one_item_do_not_count():
    zigzag = np.tile([0, 1], 50)
    assert ties_of(window(zigzag)) == "above"
    # What ascends in each pair of one time descends in between.
    assert ties_of(window(zigzag, time=np.repeat(np.arange(50), 2))) == "unseen"
    assert ties_of(window(zigzag, user=np.repeat(np.arange(50), 2))) == "unseen"
    assert ties_of(window([1, 1, 1, 2, 2, 1])) == "above"


def test_rows_are_brought_into_the_order_of_the_table():
    one = window(np.arange(100))
    shuffled = np.random.default_rng(1).permutation(100)
    parts = {name: getattr(one, name)[shuffled] for name in ("row", "item")}
    zeros = np.zeros(100, np.int64)
    assert ties_of(
        Window(user=zeros, request=zeros, time=zeros, title=None, **parts)
    ) == ("unseen")


def test_without_ties_it_does_not_matter():
    assert ties_of() == "above"
    assert ties_of(window([3, 4, 5], time=[1, 2, 3])) == "above"
