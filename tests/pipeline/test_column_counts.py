"""Counts of many workers are those of one machine."""

import collections

import numpy as np
import pytest
from event_tables import bytes_of, events, write_folder

from tfrs_negatives.data import count_ids, stream_interactions
from tfrs_negatives.layers import StaticFrequency
from tfrs_negatives.pipeline import BeamEngine, count_column, read_counts

pytestmark = pytest.mark.usefixtures("beam")

LABEL = {"label": "label"}


@pytest.mark.parametrize("role", ["user", "item"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("strings", [False, True])
def test_counts(tmp_path, monkeypatch, role, kind, strings):
    columns = events(300, seed=1, strings=strings)
    path = write_folder(tmp_path / "in", columns, kind)
    count_column(path, tmp_path / "out", role, columns=LABEL, num_shards=3)
    ids, counts = read_counts(tmp_path / "out")
    kept = columns[role][columns["label"] > 0]
    as_text = strings or kind == "csv"
    expected = collections.Counter(
        str(value).encode() if as_text else value for value in kept.tolist()
    )
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == expected
    assert ids.tolist() == sorted(expected)
    assert counts.dtype == np.int64


def test_one_machine_counts_the_same(tmp_path):
    path = write_folder(tmp_path / "in", events(300, seed=2, strings=True))
    count_column(path, tmp_path / "out", "item")
    found = read_counts(tmp_path / "out")
    wanted = count_ids(stream_interactions(path), "item", progress=False)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    log_q = StaticFrequency(found)(np.array(["é3"]))
    np.testing.assert_allclose(log_q, StaticFrequency(wanted)(np.array(["é3"])))


def test_more_shards_than_ids(tmp_path):
    columns = {"user": [1, 2], "item": ["a", "a"]}
    path = write_folder(tmp_path / "in", columns)
    count_column(path, tmp_path / "out", num_shards=5)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 5
    ids, counts = read_counts(tmp_path / "out")
    assert ids.tolist() == [b"a"] and counts.tolist() == [2]


@pytest.mark.slow(reason="starts processes; one is enough to say what they count")
def test_workers_write_the_same_bytes(tmp_path):
    path = write_folder(tmp_path / "in", events(2_000, seed=3, strings=True))
    for workers in (1, 2):
        engine = BeamEngine(workers=workers)
        count_column(path, tmp_path / f"{workers}", num_shards=2, engine=engine)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_other_files_are_no_counts(tmp_path):
    path = write_folder(tmp_path / "in", events(40, seed=4))
    with pytest.raises(ValueError, match="Expected counts that `count_column` wrote"):
        read_counts(path)
    with pytest.raises(ValueError, match="`role` must be one of"):
        count_column(path, tmp_path / "out", "title")
    with pytest.raises(ValueError, match="names of columns for .*, received day"):
        count_column(path, tmp_path / "out", columns={"day": "day"})
    assert not (tmp_path / "out").exists()
