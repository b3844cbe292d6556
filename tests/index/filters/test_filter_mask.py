import random

import filter_oracle
import numpy as np
import pytest

from tfrs_negatives.index.filters import checked_filter, mask_of
from tfrs_negatives.index.live.live_columns import COLUMNS
from tfrs_negatives.index.live.live_values import checked_column


def values_of(columns):
    """The columns as a filter reads them."""
    found = {}
    for name, kind in filter_oracle.KINDS.items():
        values = checked_column(name, columns[name], kind, len(columns[name]))
        found[name] = COLUMNS[kind].of(values).view()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_random_filters_pass_what_a_loop_says(seed):
    rng = random.Random(seed)
    columns = filter_oracle.items(rng, 60)
    values = values_of(filter_oracle.as_given(columns))
    shares = []
    for _ in range(200):
        node = filter_oracle.tree(rng, rng.randrange(4))
        where = filter_oracle.text(rng, node)
        mask = mask_of(checked_filter(where, filter_oracle.KINDS), values, 60)
        assert mask.tolist() == filter_oracle.expected(node, columns), where
        shares.append(mask.mean())
    # Else the test would say nothing.
    assert np.mean([0 < share < 1 for share in shares]) > 0.5


@pytest.mark.parametrize(
    "where, rows",
    [
        ("price < 2", [0]),
        ("not price < 2", [1, 2]),
        ("price != 1", [1]),
        ("price not in [1]", [1]),
        ("price is missing", [2]),
        ('shop == "a" or shop == "b" and price > 100', [0]),
        ('(shop == "a" or shop == "b") and price > 100', []),
        ('"red" not in tags', [1, 2]),
        ("tags is missing", [2]),
        ('added >= "2024-01-01"', [1]),
        ('added < "2024-01-01T01:00:00+01:00"', [0]),
        ('"b" == shop', [1]),
        ("2 >= price", [0, 1]),
        ("-1e0 < price", [0, 1]),
    ],
)
def test_what_filters_mean(where, rows):
    columns = {
        "shop": ["a", "b", None],
        "price": [1, 2, None],
        "added": ["2023-12-31", 1704067200, None],
        "tags": [["red"], ["blue"], []],
    }
    expression = checked_filter(where, filter_oracle.KINDS)
    mask = mask_of(expression, values_of(columns), 3)
    assert np.flatnonzero(mask).tolist() == rows
