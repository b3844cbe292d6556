"""Users with many rows: what workers do, without an engine."""

import numpy as np
import pyarrow as pa
import pytest

from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.pipeline import heavy_users


def test_little_of_a_large_user_is_held():
    num = 300_000
    rng = np.random.default_rng(0)
    columns = {"user": np.zeros(num, int), "time": rng.integers(0, 10**6, num) / 4}
    places = {"part": np.full(num, 5), "place": np.arange(num)}
    batch = pa.table({**columns, **places})
    keys, counts = np.array([0]), np.array([num])
    ((_, (_, sample)),) = heavy_users._sampled(batch, keys, counts)
    assert abs(len(sample[0]) - 65_536) < 1_500
    order = np.lexsort(sample[::-1])
    sample = tuple(column[order] for column in sample)
    ((_, *bracket),) = heavy_users._bracket((0, (0, sample)), counts)["found"]
    ((_, (below, rows)),) = heavy_users._in_brackets(batch, keys, {0: bracket})
    assert len(rows[0]) < 0.025 * num
    order = np.lexsort(rows[::-1])
    rows = tuple(column[order] for column in rows)
    (_, row) = heavy_users._chosen((0, (below, rows)), counts)["found"][0]
    is_last = last_interactions(columns["user"], columns["time"])
    found = heavy_users._at_or_after(heavy_users.row_order(batch), row)
    np.testing.assert_array_equal(found, is_last)


@pytest.mark.parametrize("counts", [[1, 2, 4, 5, 9, 10, 11]])
def test_which_rows_are_looked_for(counts):
    for count in counts:
        user = np.zeros(count, int)
        last = last_interactions(user, np.arange(count))
        assert heavy_users._num_before(count) == (~last).sum()
