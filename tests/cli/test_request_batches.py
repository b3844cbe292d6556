"""Request-sorted batches: every row once, requests together, the same for all."""

import numpy as np
import pytest

from tfrs_negatives.cli import request_batches
from tfrs_negatives.cli.time_split import Split


def make_split(seed=0, num_rows=137, strings=False):
    rng = np.random.default_rng(seed)
    request = np.unique(rng.integers(0, 30, num_rows), return_inverse=True)[1]
    user, item = request % 11, rng.integers(0, 20, num_rows)
    user_ids, item_ids = np.arange(11) * 7 - 3, np.arange(20) + 100
    if strings:
        user_ids = np.array([f"user {u:03}" for u in user_ids])
        item_ids = np.array([f"item {i}" for i in item_ids])
    nothing = np.zeros(0, np.int64)
    return Split(user_ids, item_ids, None, user, item, request, nothing, nothing)


@pytest.mark.parametrize("epoch", range(3))
def test_order_keeps_requests_together(epoch):
    request = make_split().request
    order = request_batches.request_order(request, seed=5, epoch=epoch)
    assert sorted(order.tolist()) == list(range(len(request)))
    ordered = request[order]
    changes = 1 + (ordered[1:] != ordered[:-1]).sum()
    assert changes == len(set(request.tolist()))
    for one in set(request.tolist()):
        rows = order[ordered == one]
        assert (np.diff(rows) > 0).all()  # File order within a request.


def test_orders_differ_by_seed_and_epoch_only():
    request = make_split().request
    orders = {
        (seed, epoch): tuple(request_batches.request_order(request, seed, epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(request_batches.request_order(request, 1, 2)) == orders[1, 2]


@pytest.mark.parametrize("size", [2, 10, 137, 1000])
def test_batches_cover_every_row_once(size):
    split = make_split()
    found = request_batches.request_batches(split, size, seed=0, epoch=0)
    assert sorted(np.concatenate(found).tolist()) == list(range(137))
    assert all(len(rows) == size for rows in found[:-1])
    assert 0 < len(found[-1]) <= size


@pytest.mark.parametrize("strings", [False, True])
def test_dataset_yields_those_batches(strings):
    split = make_split(strings=strings)
    dataset = request_batches.dataset(split, 25, seed=3)
    assert int(dataset.cardinality()) == 6
    for epoch in range(2):
        expected = request_batches.request_batches(split, 25, seed=3, epoch=epoch)
        found = list(dataset.as_numpy_iterator())
        assert len(found) == len(expected) == 6
        for features, rows in zip(found, expected, strict=True):
            for name, ids, positions in (
                ("user", split.user_ids, split.user),
                ("item", split.item_ids, split.item),
            ):
                values = features[name]
                if strings:
                    values = np.array([v.decode() for v in values])
                np.testing.assert_array_equal(values, ids[positions[rows]])
            np.testing.assert_array_equal(features["request"], split.request[rows])


def test_two_datasets_of_a_seed_are_alike():
    split = make_split()
    first, second = (request_batches.dataset(split, 25, seed=1) for _ in range(2))
    for _ in range(3):
        pairs = zip(first.as_numpy_iterator(), second.as_numpy_iterator(), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one["item"], other["item"])
