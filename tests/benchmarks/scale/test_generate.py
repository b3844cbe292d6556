"""The generated table: its catalogue, its order and its skew."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.scale import generate


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "PART", 7_000)
    generate.write(tmp_path / "table.parquet", 50_000, num_users=500, num_items=4_000)
    return pq.read_table(tmp_path / "table.parquet")


def test_every_item_is_there_and_some_are_popular(table):
    items, counts = np.unique(table["item"].to_numpy(), return_counts=True)
    assert items.tolist() == list(range(4_000))
    # Of 40,000 draws with p = log(2) / log(4001), give or take 6 deviations.
    share = np.log(2) / np.log(4_001)
    expected, deviation = 40_000 * share, (40_000 * share * (1 - share)) ** 0.5
    assert abs(counts.max() - expected) < 6 * deviation + 5
    # Popular ids are not next to each other.
    assert np.abs(np.diff(np.argsort(-counts, kind="stable")[:5])).min() > 1


def test_rows_are_in_order_of_time_and_in_parts(table, tmp_path):
    time = table["time"].to_numpy()
    assert (np.diff(time) >= 0).all()
    assert time[-1] - time[0] == int(49_999 * generate.SECONDS_A_ROW)
    assert len(set(table["user"].to_pylist())) == 500
    file = pq.ParquetFile(tmp_path / "table.parquet")
    assert file.metadata.num_row_groups == 8


def test_numbers_are_scattered_one_to_one():
    for num in (1, 2, 999, 4_000):
        found = generate.scattered(np.arange(num), num)
        assert sorted(found.tolist()) == list(range(num))


def test_power_law():
    draws = generate.PowerLaw(1_000).draw(np.random.default_rng(0), 100_000)
    assert draws.min() == 0 and draws.max() <= 999
    for rank in (1, 10, 100):
        share = np.log((rank + 2) / (rank + 1)) / np.log(1_001)
        deviation = (100_000 * share * (1 - share)) ** 0.5
        assert abs((draws == rank).sum() - 100_000 * share) < 6 * deviation
