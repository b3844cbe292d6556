"""Rows in buckets: all of them, in order, those of a key together."""

import os

import numpy as np
import pytest

from tfrs_negatives.data import row_buckets
from tfrs_negatives.data.row_buckets import RowBuckets

DTYPE = np.dtype([("row", "i8"), ("key", "i8"), ("value", "f8")])


def make_rows(num_rows, num_keys=50):
    rng = np.random.default_rng(0)
    rows = np.empty(num_rows, DTYPE)
    rows["row"] = np.arange(num_rows)
    rows["key"] = rng.integers(-num_keys, num_keys, num_rows)
    rows["value"] = rng.normal(size=num_rows)
    return rows


def filled(folder, rows, part):
    buckets = RowBuckets(DTYPE, folder)
    for start in range(0, len(rows), part):
        some = rows[start : start + part]
        buckets.add(some, some["key"])
    return buckets


@pytest.mark.parametrize("held", [1, 40, 10_000])
@pytest.mark.parametrize("window", [1, 60, 10_000])
def test_windows_have_all_rows_once_and_keys_whole(tmp_path, monkeypatch, held, window):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", held)
    monkeypatch.setattr(row_buckets, "WINDOW_ROWS", window)
    rows = make_rows(777)
    buckets = filled(tmp_path, rows, 31)
    assert len(buckets) == buckets.sizes.sum() == 777
    assert bool(os.listdir(tmp_path)) == (held < 777)
    groups = buckets.windows()
    assert sorted(sum(groups, [])) == list(range(row_buckets.NUM_BUCKETS))
    found = [buckets.read(group) for group in groups]
    for group, part in zip(groups, found, strict=True):
        assert (np.diff(part["row"]) > 0).all()
        assert np.isin(rows["key"], part["key"]).sum() == len(part)
        assert len(part) <= window or (buckets.sizes[group] > 0).sum() == 1
    together = np.concatenate(found)
    np.testing.assert_array_equal(together[np.argsort(together["row"])], rows)


def test_keys_are_spread_evenly(tmp_path):
    rows = make_rows(100_000, num_keys=10**9)
    sizes = filled(tmp_path, rows, 10_000).sizes
    # Poisson of mean 391: 6 deviations, 1 false alarm in 10^6 runs.
    assert abs(sizes - 100_000 / 256).max() < 6 * (100_000 / 256) ** 0.5


def test_rows_that_are_forgotten_free_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 1)
    buckets = filled(tmp_path, make_rows(500), 100)
    (folder,) = tmp_path.iterdir()
    assert sum(path.stat().st_size for path in folder.iterdir()) == 500 * 24
    buckets.forget(range(100))
    kept = sum(path.stat().st_size for path in folder.iterdir())
    assert kept == buckets.sizes[100:].sum() * 24


def test_no_rows(tmp_path):
    buckets = RowBuckets(DTYPE, tmp_path)
    (window,) = buckets.windows()
    assert len(buckets.read(window)) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 1)
    with pytest.raises(OSError, match=r"240 bytes of rows.*absent.*Free space"):
        filled(tmp_path / "absent", make_rows(10), 10)


@pytest.mark.parametrize("keep", [0, 5])
def test_files_that_were_removed_or_cut_are_an_error(tmp_path, monkeypatch, keep):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 40)
    buckets = filled(tmp_path, make_rows(400), 31)
    path = next(tmp_path.rglob("*.rows"))
    if keep:
        os.truncate(path, path.stat().st_size - keep)
    else:
        path.unlink()
    with pytest.raises(OSError, match=r"Expected 400 rows .* Run again"):
        buckets.read(range(row_buckets.NUM_BUCKETS))
