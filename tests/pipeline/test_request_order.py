"""Shards of requests are what one machine's pipelines would have."""

import collections

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from event_tables import bytes_of, events, rows_of, write_folder

from tfrs_negatives.data import group_by_request, interactions, stream_interactions
from tfrs_negatives.pipeline import BeamEngine, order_by_request

pytestmark = pytest.mark.usefixtures("beam")

NAMES = ("user", "item", "request", "time")
COLUMNS = {"request": "request", "time": "time", "label": "label"}
READ = {"request": "request", "time": "time"}


def shards(folder):
    """Rows of each file."""
    tables = [pq.read_table(p) for p in sorted(folder.glob("*.parquet"))]
    return [rows_of(table.to_pydict(), NAMES) for table in tables]


def positives(columns):
    rows = rows_of(columns, NAMES)
    return [row for row, kept in zip(rows, columns["label"] > 0, strict=True) if kept]


@pytest.mark.parametrize("strings", [False, True])
def test_pipelines_of_one_machine(tmp_path, strings):
    path = write_folder(tmp_path / "in", events(400, seed=1, strings=strings))
    order_by_request(path, tmp_path / "out", columns=COLUMNS, shards=3)
    every = stream_interactions(path, **COLUMNS)
    every = every.unbatch().filter(lambda row: row["label"] > 0)
    assert len(shards(tmp_path / "out")) == 3
    for number, found in enumerate(shards(tmp_path / "out")):
        batches = group_by_request(
            every,
            "request",
            batch_size=64,
            buffer_size=10_000,
            input_context=tf.distribute.InputContext(3, number, 3),
        )
        expected = [
            row
            for batch in batches.as_numpy_iterator()
            for row in rows_of({n: batch[n].tolist() for n in NAMES}, NAMES)
        ]
        expected = [
            tuple(v.decode() if isinstance(v, bytes) else v for v in row)
            for row in expected
        ]
        assert found == expected and found


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_requests_are_together_and_nothing_is_lost(tmp_path, kind):
    columns = events(500, seed=2)
    path = write_folder(tmp_path / "in", columns, kind)
    order_by_request(path, tmp_path / "out", columns=COLUMNS, shards=2, heavy_rows=20)
    table = interactions(tmp_path / "out", **READ)
    found = {name: getattr(table, name).tolist() for name in NAMES}
    if kind == "csv":
        found.update({name: list(map(int, found[name])) for name in NAMES[:3]})
    wanted = positives(columns)
    assert collections.Counter(rows_of(found, NAMES)) == collections.Counter(wanted)
    places = collections.defaultdict(list)
    for place, request in enumerate(found["request"]):
        places[request].append(place)
    # Next to each other, in the order of the input.
    for request, rows in places.items():
        assert rows == list(range(rows[0], rows[0] + len(rows)))
        expected = [row for row in wanted if row[2] == request]
        assert [rows_of(found, NAMES)[row] for row in rows] == expected
    batches = group_by_request(
        stream_interactions(tmp_path / "out", **READ), "request", batch_size=32
    )
    assert sum(len(batch["item"]) for batch in batches) == len(wanted)


def test_no_shard_has_much_of_a_large_request(tmp_path, monkeypatch):
    from tfrs_negatives.pipeline import input_rows

    monkeypatch.setattr(input_rows, "_BATCH", 10)
    columns = events(2_000, seed=3)
    columns["request"][:] = np.where(columns["request"] % 3, 11, columns["request"])
    path = write_folder(tmp_path / "in", columns)
    order_by_request(path, tmp_path / "out", columns=COLUMNS, shards=2, heavy_rows=50)
    num_heavy = sum(row[2] == 11 for row in positives(columns))
    sizes = list(map(len, shards(tmp_path / "out")))
    assert num_heavy > 1_000
    assert len(sizes) >= 2 + num_heavy / 50
    assert all(0 < size <= 50 for size in sizes[2:]) and sum(sizes[2:]) == num_heavy


def test_shuffled(tmp_path):
    columns = events(600, seed=4)
    path = write_folder(tmp_path / "in", columns)
    outputs = []
    for number, seed in enumerate((0, 0, 1)):
        output = tmp_path / f"{number}"
        given = dict(columns=COLUMNS, shards=2, seed=seed)
        order_by_request(path, output, "shuffled", **given)
        outputs.append([row for shard in shards(output) for row in shard])
    assert outputs[0] == outputs[1] != outputs[2]
    wanted = positives(columns)
    assert collections.Counter(outputs[0]) == collections.Counter(wanted)
    # Of the rows next to each other, about as many are of one item as by chance.
    items = np.array([row[1] for row in outputs[0]])
    share = np.bincount(items) / len(items)
    same, chance = (items[1:] == items[:-1]).mean(), (share**2).sum()
    assert abs(same - chance) < 4 * np.sqrt(chance / len(items))


def test_default_requests_and_times(tmp_path):
    columns = events(200, seed=5)
    path = write_folder(tmp_path / "in", columns)
    for named in ({}, {"time": "time"}):
        output = tmp_path / f"out{len(named)}"
        order_by_request(path, output, columns=named)
        stream = stream_interactions(path, **named)
        found = interactions(output, request="request")
        expected = [b["request"] for b in stream.as_numpy_iterator()]
        assert sorted(found.request.tolist()) == sorted(np.concatenate(expected))


@pytest.mark.slow(reason="starts processes; one is enough to say what they write")
def test_workers_write_the_same_bytes(tmp_path):
    path = write_folder(tmp_path / "in", events(2_000, seed=6, strings=True))
    for workers in (1, 2):
        order_by_request(
            path,
            tmp_path / f"{workers}",
            columns=COLUMNS,
            shards=3,
            heavy_rows=100,
            engine=BeamEngine(workers=workers),
        )
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")
