"""Batches of many requests: the promised number, nothing lost, seeds, workers."""

import numpy as np
import pytest
import request_streams as streams
import tensorflow as tf
from grids import grid, some_of

from tfrs_negatives.data import RequestCounts, group_by_request, spread_requests


def spread(stream, batch_size=64, min_distinct_keys=32, buffer_size=500, **options):
    return spread_requests(
        streams.slices(stream),
        "request",
        batch_size,
        key_mask="has_request" if "has_request" in stream else None,
        min_distinct_keys=min_distinct_keys,
        buffer_size=buffer_size,
        **options,
    )


def num_distinct(batch):
    return len(set(streams.key_list(batch)))


@pytest.mark.parametrize(
    "strings, interleaved, rows_a_batch",
    grid([False, True], [0, 200], [None, 700], rounds=2),
)
def test_batches_have_the_keys_that_were_asked_for(strings, interleaved, rows_a_batch):
    stream = streams.random_stream(0, interleaved=interleaved, strings=strings)
    counts = RequestCounts()
    dataset = spread_requests(
        streams.slices(stream, rows_a_batch),
        "request",
        50,
        min_distinct_keys=30,
        # Requests have at most 40 rows.
        buffer_size=1_200,
        key_mask="has_request",
        counts=counts,
    )
    batches = streams.read(dataset)
    order = streams.check_rows(batches, stream)
    assert [len(batch["row"]) for batch in batches] == [50] * 60
    distinct = [num_distinct(batch) for batch in batches]
    # Once no more rows come, batches still have a row of each request that is left.
    assert min(distinct[: (3_000 - 1_200) // 50]) >= 30
    assert sum(d < 30 for d in distinct) == counts.short_batches
    assert counts.rows_in == counts.rows_out == 3_000
    assert counts.batches == 60
    assert counts.rows_without_key > 0
    # Batches hold no row from further ahead than the buffer and a chunk reach.
    came_by = order.argsort() // 50 * 50
    assert (np.arange(3_000) - came_by).max() < 1_200 + 1_024


@pytest.mark.parametrize("seed", some_of(range(4), [3]))
@pytest.mark.parametrize(("batch_size", "least"), [(16, 16), (64, 5), (300, 299)])
def test_no_row_is_lost_and_no_batch_is_poorer_than_it_must_be(seed, batch_size, least):
    stream = streams.random_stream(seed, num_rows=2_000, largest=120)
    keys = streams.key_list(stream)
    counts = RequestCounts()
    batches = streams.read(
        spread(stream, batch_size, least, buffer_size=300, seed=seed, counts=counts)
    )
    streams.check_rows(batches, stream)
    assert counts.rows_in == counts.rows_out == 2_000
    # What the buffer held when a batch was made: chunks are of 1,024 rows, and batches
    # are made until no more than 300 rows are left.
    num_read, held, short = 0, set(), 0
    for batch in batches:
        if len(held) <= 300 and num_read < 2_000:
            new = min(num_read + 1_024, 2_000)
            held |= set(range(num_read, new))
            num_read = new
        possible = len({keys[row] for row in held})
        rows = set(batch["row"].tolist())
        assert rows <= held
        assert num_distinct(batch) >= min(least, possible, len(rows))
        short += possible < least and len(rows) == batch_size
        held -= rows
    assert counts.short_batches == short


def test_every_row_is_as_likely_to_come_early():
    # 256 rows wait in a buffer of 1,280 rows: of 1,536 rows, the first batch.
    stream = {"request": np.repeat(np.arange(384), 4), "row": np.arange(1_536)}
    dataset = spread(stream, 256, 1, buffer_size=1_280)
    times = np.zeros(1_536)
    num = 30
    for _ in range(num):
        first = next(iter(dataset))["row"].numpy()
        assert len(set(first.tolist())) == 256
        times[first] += 1
    # Chi-square with 1,535 degrees of freedom and variance (1 - 1/6) a cell: its mean
    # is 1,536 and its deviation 55; seven deviations.
    expected = num / 6
    statistic = ((times - expected) ** 2).sum() / (expected * 5 / 6)
    assert abs(statistic - 1_536) < 7 * 55.4


def test_equal_seeds_give_equal_batches_and_passes_differ():
    stream = streams.random_stream(1)

    def orders(seed, passes=2):
        dataset = spread(stream, seed=seed)
        return [
            np.concatenate([b["row"] for b in streams.read(dataset)]).tolist()
            for _ in range(passes)
        ]

    first, second = orders(3)
    assert first != second
    assert orders(3) == [first, second]
    assert orders(4)[0] != first


def test_a_restored_iterator_goes_on_where_the_other_was(tmp_path):
    dataset = spread(streams.random_stream(2))
    iterator = iter(dataset)
    for _ in range(20):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "checkpoint"))
    expected = [batch["row"].numpy().tolist() for batch in iterator]
    assert len(expected) == 27
    restored = iter(spread(streams.random_stream(2)))
    tf.train.Checkpoint(iterator=restored).restore(path).assert_consumed()
    assert [batch["row"].numpy().tolist() for batch in restored] == expected


def test_one_key_for_longer_than_the_buffer_is_warned_of_once(capfd):
    keys = np.concatenate([np.arange(2_000), np.full(3_000, 7), np.arange(2_000)])
    stream = {"request": keys, "row": np.arange(7_000)}
    counts = RequestCounts()
    batches = streams.read(spread(stream, 100, 60, buffer_size=200, counts=counts))
    streams.check_rows(batches, stream)
    assert 20 < counts.short_batches < 35
    assert sum(num_distinct(batch) < 60 for batch in batches) == counts.short_batches
    assert {len(batch["row"]) for batch in batches} == {100}
    assert capfd.readouterr().err.count("fewer than 60 distinct keys") == 1


def test_one_endless_key_gives_full_batches():
    endless = tf.data.Dataset.counter().map(lambda i: {"request": i * 0, "row": i})
    dataset = spread_requests(
        endless, "request", 100, min_distinct_keys=50, buffer_size=300
    )
    rows = [b["row"].numpy() for b in dataset.take(40)]
    assert len(np.unique(np.concatenate(rows))) == 4_000


def test_rows_without_a_key_are_different_requests():
    stream = {
        "request": np.array([b""] * 100, object),
        "has_request": np.zeros(100, bool),
        "row": np.arange(100),
    }
    counts = RequestCounts()
    batches = streams.read(spread(stream, 20, 20, buffer_size=20, counts=counts))
    assert len(batches) == 5
    assert counts.short_batches == 0
    assert counts.rows_without_key == 100


def test_an_incomplete_last_batch_is_dropped_only_on_request():
    stream = streams.random_stream(3, num_rows=1_030)
    for drop, sizes in ((False, [100] * 10 + [30]), (True, [100] * 10)):
        counts = RequestCounts()
        dataset = spread(stream, 100, drop_remainder=drop, counts=counts)
        assert [len(batch["row"]) for batch in streams.read(dataset)] == sizes
        assert counts.rows_in == counts.rows_out + counts.dropped_rows == 1_030
        assert counts.dropped_rows == (30 if drop else 0)
        assert dataset.element_spec["vector"].shape[0] == (100 if drop else None)


def test_tuples_keep_their_structure():
    stream = streams.slices((np.arange(40) // 4, {"x": np.ones((40, 2))}))
    for drop in (False, True):
        dataset = spread_requests(
            stream,
            0,
            10,
            min_distinct_keys=5,
            buffer_size=30,
            drop_remainder=drop,
        )
        for key, features in dataset:
            assert key.shape == (10,)
            assert features["x"].shape == (10, 2)


def test_an_empty_dataset_gives_no_batches():
    stream = {"request": np.zeros(0, np.int64), "row": np.zeros(0, np.int64)}
    assert streams.read(spread(stream)) == []


def test_workers_divide_the_requests_and_draw_differently():
    stream = streams.random_stream(5)
    batches, owners = [], {}
    for pipeline in range(2):
        dataset = spread(stream, input_context=streams.context(2, pipeline))
        for batch in streams.read(dataset):
            batches.append(batch)
            for key in batch["request"].tolist():
                owners.setdefault(key, set()).add(pipeline)
    streams.check_rows(batches, stream)
    for key in stream["request"][~stream["has_request"]].tolist():
        owners.pop(key, None)
    assert len(owners) > 100
    assert all(len(pipelines) == 1 for pipelines in owners.values())


def test_pipelines_are_graphs_but_for_counts():
    stream = streams.random_stream(0)

    def calls_python(dataset):
        return b"PyFunc" in dataset._as_serialized_graph().numpy()

    for counts in (None, RequestCounts()):
        grouped = group_by_request(streams.slices(stream), "request", 10, counts=counts)
        for dataset in (spread(stream, counts=counts), grouped):
            assert calls_python(dataset) == (counts is not None)


def test_distributed_over_replicas_no_row_is_lost(two_replicas):
    stream = streams.random_stream(6)
    dataset = two_replicas.experimental_distribute_dataset(spread(stream))
    rows = []
    for batch in dataset:
        for part in two_replicas.experimental_local_results(batch):
            rows += part["row"].numpy().tolist()
    assert sorted(rows) == list(range(3_000))


BAD = {
    "more keys than rows": (dict(min_distinct_keys=65), "at most 64, received 65"),
    "no keys": (dict(min_distinct_keys=0), "`min_distinct_keys`.*0"),
    "a buffer below a batch": (dict(buffer_size=63), "64 rows or more, received 63"),
    "an empty batch": (dict(batch_size=0), "`batch_size`.*0"),
    "a negative seed": (dict(seed=-1), "`seed`.*-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    changed, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        spread(streams.random_stream(0), **changed)
