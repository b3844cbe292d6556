"""Small tables and models that several tests look at."""

import numpy as np
import pytest

from tfrs_negatives.audit.audit_table import AuditTable


def _table(seed=0, num_rows=120, num_users=9, num_items=17, shared_requests=False):
    """A table of skewed items, with rows of a request of one or of several users."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, num_users, num_rows)
    item = (num_items * rng.random(num_rows) ** 2).astype(int)
    request = 4 * user + rng.integers(0, 4, num_rows)
    if shared_requests:
        request = rng.integers(0, 14, num_rows)
    columns, ids = {}, {}
    for name, values in (("user", user), ("item", item), ("request", request)):
        ids[name], codes = np.unique(values, return_inverse=True)
        columns[name] = codes.astype(np.int32)
    return AuditTable(
        **columns,
        user_ids=ids["user"] + 100,
        item_ids=ids["item"] + 500,
        hashed=(),
        time=rng.permutation(num_rows),
        time_range="none",
        user_names=None,
        name="a table",
        request_rule="rows of equal 'request'",
        num_read=num_rows,
        num_dropped=0,
    )


@pytest.fixture(scope="session")
def make_table():
    return _table


class _Scores:
    """A model whose scores are a given matrix; NaN for items it does not know."""

    def __init__(self, matrix, knows_user=None):
        self.matrix = matrix.astype(np.float32)
        self.knows_item = ~np.isnan(matrix).any(axis=0)
        self.knows_user = (
            np.ones(len(matrix), bool) if knows_user is None else knows_user
        )

    def scores(self, users):
        return self.matrix[users].copy()


@pytest.fixture(scope="session")
def make_model():
    """A model of random scores in which a user's own items score higher."""

    def make(table, seed=0, unknown_item=None):
        rng = np.random.default_rng(seed)
        matrix = rng.normal(size=(table.num_users, table.num_items))
        matrix[table.user, table.item] += 1.0
        if unknown_item is not None:
            matrix[:, unknown_item] = np.nan
        return _Scores(matrix)

    return make
