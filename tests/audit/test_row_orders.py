"""Orders of an epoch."""

import numpy as np
import pytest

from tfrs_negatives.audit import row_orders


def test_shuffled_order_is_a_permutation_that_depends_on_the_seed():
    first, again, other = (row_orders.shuffled_order(500, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(np.sort(first), np.arange(500))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9


def test_spread_order_has_every_row_and_as_many_requests_as_asked_for():
    request = np.repeat(np.arange(60), 10)
    base = row_orders.request_order(request, 0, 0)
    settings = {"min_distinct_keys": 15, "buffer_size": 320}
    found, short = row_orders.spread_order(base, request, 40, seed=1, **settings)
    np.testing.assert_array_equal(np.sort(found), np.arange(600))
    parts = [found[start : start + 40] for start in range(0, 600, 40)]
    distinct = [len(set(request[rows].tolist())) for rows in parts]
    assert sum(number < 15 for number in distinct) == short <= 2
    assert len(set(request[base[:40]].tolist())) == 4


@pytest.mark.parametrize(
    "batch_size, num_rows, num_requests, expected",
    [
        (64, 10_000, 500, (1024, 25)),  # 1,024 rows hold 51.2 of the requests.
        (64, 10_000, 10_000, (1024, 64)),  # No more than a batch has rows.
        (64, 200, 10, (200, 5)),  # The buffer holds the table.
        (64, 10_000, 2, (1024, 1)),
    ],
)
def test_spread_settings(batch_size, num_rows, num_requests, expected):
    found = row_orders.spread_settings(batch_size, num_rows, num_requests, 16)
    assert (found["buffer_size"], found["min_distinct_keys"]) == expected


@pytest.mark.parametrize("epoch", range(3))
def test_request_order_keeps_requests_together(epoch):
    request = requests()
    order = row_orders.request_order(request, seed=5, epoch=epoch)
    assert sorted(order.tolist()) == list(range(len(request)))
    ordered = request[order]
    changes = 1 + (ordered[1:] != ordered[:-1]).sum()
    assert changes == len(set(request.tolist()))
    for one in set(request.tolist()):
        rows = order[ordered == one]
        assert (np.diff(rows) > 0).all()  # File order within a request.


def test_request_orders_differ_by_seed_and_epoch_only():
    request = requests()
    orders = {
        (seed, epoch): tuple(row_orders.request_order(request, seed, epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(row_orders.request_order(request, 1, 2)) == orders[1, 2]


def requests():
    drawn = np.random.default_rng(0).integers(0, 30, 137)
    return np.unique(drawn, return_inverse=True)[1]
