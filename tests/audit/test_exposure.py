"""Items seen as negatives in an epoch, against loops over all pairs."""

import numpy as np
import pytest

from tfrs_negatives.audit.exposure import items_seen
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.row_orders import request_order


def oracle(order, size, table):
    likes = set(zip(table.user.tolist(), table.item.tolist(), strict=True))
    seen = set()
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        for i in rows:
            for k in rows:
                if table.request[i] == table.request[k]:
                    continue
                if (table.user[i], table.item[k]) not in likes:
                    seen.add(int(table.item[k]))
    return seen


@pytest.mark.parametrize("shared_requests", [False, True])
@pytest.mark.parametrize("sorted_order", [False, True])
@pytest.mark.parametrize("size", [2, 5, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_seen_items_equal_loops(make_table, seed, size, sorted_order, shared_requests):
    table = make_table(
        seed=seed, num_rows=60, num_items=45, shared_requests=shared_requests
    )
    order = np.random.default_rng(seed).permutation(60)
    if sorted_order:
        order = request_order(table.request, seed, 0)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    wanted = np.arange(table.num_items) % 3 > 0
    found = items_seen(order, size, table, known, wanted)
    expected = {item for item in oracle(order, size, table) if wanted[item]}
    assert set(np.flatnonzero(found).tolist()) == expected


def test_oracle_is_not_trivial(make_table):
    """In small sorted batches some items are never a negative."""
    table = make_table(num_rows=60, num_items=45)
    seen = oracle(request_order(table.request, 0, 0), 2, table)
    assert 0 < len(seen) < table.num_items
