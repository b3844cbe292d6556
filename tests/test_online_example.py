"""`examples/online.py`: each file once, whatever happens in between."""

import importlib
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfrs_negatives as tn

ROOT = pathlib.Path(__file__).parents[1]
ITEMS = [f"é{number}" for number in range(30)]


@pytest.fixture
def online(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("online")


@pytest.fixture
def embed(tmp_path):
    tower = tf.Module()
    tower.embed = tf.function(
        lambda price: tf.stack([price, -price], axis=1),
        input_signature=[tf.TensorSpec([None], tf.float64, "price")],
    )
    tf.saved_model.save(tower, str(tmp_path / "tower"), tower.embed)
    return tf.saved_model.load(str(tmp_path / "tower")).signatures["serving_default"]


@pytest.fixture
def index(tmp_path):
    index = tn.index.LiveIndex.create(tmp_path / "index", ["old"], [[0.0, 1.0]])
    yield index
    index.close()


@pytest.fixture
def follow(tmp_path, online, index, embed):
    """A follower, as a process that starts makes one."""
    events, items = tmp_path / "events", tmp_path / "items"
    events.mkdir()
    items.mkdir()

    def follow():
        return online.Follower(events, items, tmp_path / "state", index, embed, 1000)

    return follow


def write_events(path, drawn):
    path.write_text("user,item\n" + "".join(f"ann,{item}\n" for item in drawn))


def write_items(path, ids, prices):
    pq.write_table(pa.table({"item": ids, "price": np.array(prices, float)}), path)


def test_each_file_once(tmp_path, follow, index):
    events, items = tmp_path / "events", tmp_path / "items"
    rng = np.random.default_rng(0)
    drawn = [rng.choice(ITEMS, 50) for _ in range(3)]
    write_events(events / "5.csv", drawn[0])
    write_events(events / ".6.csv", drawn[1])  # Not yet whole.
    write_items(items / "1.parquet", ["new", "other"], [3, 2])
    follower = follow()
    assert [path.name for path in follower.look()] == ["1.parquet", "5.csv"]
    assert follower.look() == []
    assert index.search([[1.0, 0.0]], k=1).ids.tolist() == [["new"]]

    # A process that starts anew; a late file, and an item that has changed.
    (events / ".6.csv").rename(events / "6.csv")
    write_events(events / "4.csv", drawn[2])
    write_items(items / "2.parquet", ["other"], [9])
    follower = follow()
    names = [path.name for path in follower.look()]
    assert names == ["2.parquet", "4.csv", "6.csv"]
    assert index.search([[1.0, 0.0]], k=3).ids.tolist() == [["other", "new", "old"]]

    # What one that saw all rows in this order knows.
    whole = tn.layers.StreamingFrequency(num_ids=1000)
    for rows in (drawn[0], drawn[2], drawn[1]):
        whole(tf.constant(rows.tolist()), training=True)
    np.testing.assert_array_equal(
        follower.frequency(tf.constant(ITEMS)), whole(tf.constant(ITEMS))
    )
    restored = tn.layers.StreamingFrequency(num_ids=1000)
    latest = tf.train.latest_checkpoint(tmp_path / "state")
    tf.train.Checkpoint(frequency=restored).restore(latest).expect_partial()
    np.testing.assert_array_equal(
        restored(tf.constant(ITEMS)), whole(tf.constant(ITEMS))
    )


def test_half_a_file_is_not_read(tmp_path, online, follow, monkeypatch):
    monkeypatch.setattr(online, "BATCH", 20)
    path = tmp_path / "events" / "1.csv"
    drawn = np.random.default_rng(1).choice(ITEMS, 50)
    write_events(path, drawn)
    follower, learn = follow(), online.tn.layers.StreamingFrequency.call
    calls = []

    def fails(self, ids, *args, training=False, **kwargs):
        calls.append(len(ids))
        if len(calls) == 3:
            raise OSError("the disk is gone")
        return learn(self, ids, *args, training=training, **kwargs)

    monkeypatch.setattr(online.tn.layers.StreamingFrequency, "call", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        follower.look()
    monkeypatch.setattr(online.tn.layers.StreamingFrequency, "call", learn)
    unread = tn.layers.StreamingFrequency(num_ids=1000)
    np.testing.assert_array_equal(
        follower.frequency(tf.constant(ITEMS)), unread(tf.constant(ITEMS))
    )
    assert [found.name for found in follower.look()] == ["1.csv"]
    for start in range(0, 50, 20):
        unread(tf.constant(drawn[start : start + 20].tolist()), training=True)
    np.testing.assert_array_equal(
        follower.frequency(tf.constant(ITEMS)), unread(tf.constant(ITEMS))
    )
