"""Batches of whole requests: packing, regrouping, what cannot stay together."""

import numpy as np
import pytest
import request_streams as streams
import tensorflow as tf
from grids import grid, some_of

from tfrs_negatives.data import RequestCounts, group_by_request, spread_requests

KINDS = [(0, False, 16), (1, True, 16), (2, False, 200), (3, True, 2_000)]


def packed(keys, batch_size):
    """Rows' places in batches, one request after the other: an obvious loop."""
    requests, previous = [], None
    for place, key in enumerate(keys):
        if key != previous:
            requests.append([])
        requests[-1].append(place)
        previous = key
    batches, batch, cut = [], [], 0
    for request in requests:
        if len(batch) + len(request) > batch_size and batch:
            batches.append(batch)
            batch = []
        cut += len(request) > batch_size
        while len(request) > batch_size:
            batches.append(request[:batch_size])
            request = request[batch_size:]
        batch = batch + request
    return batches + ([batch] if batch else []), cut


@pytest.mark.parametrize("kind, rows_a_batch", grid(KINDS, [None, 7, 5_000]))
def test_sorted_rows_are_packed_in_order(kind, rows_a_batch):
    seed, strings, batch_size = kind
    stream = streams.random_stream(seed, strings=strings)
    expected, cut = packed(streams.key_list(stream), batch_size)
    counts = RequestCounts()
    dataset = streams.slices(stream, rows_a_batch)
    dataset = group_by_request(
        dataset, "request", batch_size, key_mask="has_request", counts=counts
    )
    batches = streams.read(dataset)
    assert [batch["row"].tolist() for batch in batches] == expected
    streams.check_rows(batches, stream)
    missing = np.count_nonzero(~stream["has_request"])
    assert counts.rows_in == counts.rows_out == 3_000
    assert counts.batches == len(expected)
    assert counts.cut_requests == cut
    assert counts.rows_without_key == missing > 0
    assert counts.late_requests == counts.dropped_rows == counts.short_batches == 0
    assert cut > 0 or batch_size > 16


@pytest.mark.parametrize(("seed", "strings", "batch_size"), KINDS)
def test_interleaved_rows_are_regrouped(seed, strings, batch_size):
    stream = streams.random_stream(seed, interleaved=300, strings=strings, largest=10)
    counts = RequestCounts()
    dataset = group_by_request(
        streams.slices(stream),
        "request",
        batch_size,
        buffer_size=2_500,
        key_mask="has_request",
        counts=counts,
    )
    batches = streams.read(dataset)
    order = streams.check_rows(batches, stream)
    keys = streams.key_list(stream)
    seen = {}
    for number, batch in enumerate(batches):
        assert 1 <= len(batch["row"]) <= batch_size
        for row in batch["row"]:
            seen.setdefault(keys[row], set()).add(number)
    assert all(len(numbers) == 1 for numbers in seen.values())
    # Requests leave in the order of their first rows, and keep their rows' order.
    first = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    places = [(first[keys[row]], row) for row in order]
    assert places == sorted(places)
    assert counts.rows_in == counts.rows_out == 3_000
    assert counts.late_requests == counts.cut_requests == 0


@pytest.mark.parametrize("buffer_size", [32, 400])
@pytest.mark.parametrize("seed", some_of(range(5), [0]))
def test_no_row_is_lost_from_any_stream(seed, buffer_size):
    stream = streams.random_stream(seed, interleaved=1_000, largest=90)
    counts = RequestCounts()
    dataset = group_by_request(
        streams.slices(stream),
        "request",
        32,
        buffer_size=buffer_size,
        key_mask="has_request",
        counts=counts,
    )
    streams.check_rows(streams.read(dataset), stream)
    assert counts.rows_in == counts.rows_out == 3_000
    assert counts.late_requests > 0


def test_keys_that_came_back_are_counted_and_warned_of_once(capfd):
    # Chunks are of 1,024 rows: key 0 is in the first, second and fourth.
    keys = np.repeat(np.arange(400), 10)
    keys[[1_500, 3_500]] = 0
    counts = RequestCounts()
    dataset = group_by_request(
        streams.slices({"request": keys, "row": np.arange(4_000)}),
        "request",
        20,
        buffer_size=20,
        counts=counts,
    )
    batches = streams.read(dataset)
    assert counts.late_requests == 2
    assert counts.rows_out == sum(len(batch["row"]) for batch in batches) == 4_000
    assert capfd.readouterr().err.count("came back after its rows had left") == 1


def test_unsorted_rows_declared_sorted_are_an_error():
    keys = np.repeat(np.arange(2_000), 10)
    keys[15_000] = 3
    stream = {"request": keys, "row": np.arange(20_000)}
    dataset = group_by_request(streams.slices(stream), "request", 100)
    rows = []
    with pytest.raises(tf.errors.InvalidArgumentError, match="buffer_size") as caught:
        for batch in dataset:
            rows += batch["row"].numpy().tolist()
    assert "sorted by request (`request`)" in str(caught.value)
    assert rows == list(range(len(rows))) and len(rows) <= 15_000


def test_a_return_is_noticed_among_the_requests_that_left_last():
    def is_noticed(between):
        keys = np.repeat(np.arange(between + 4_000), 2)
        keys[-1] = 0
        stream = streams.slices({"request": keys})
        dataset = group_by_request(stream, "request", 1_000)
        try:
            return sum(len(b["request"]) for b in streams.read(dataset)) == 0
        except tf.errors.InvalidArgumentError:
            return True

    assert is_noticed(12_000)
    assert not is_noticed(20_000)


def test_a_request_larger_than_a_batch_is_cut_and_warned_of_once(capfd):
    keys = np.repeat([5, 6, 7, 8, 9], [3, 25, 4, 2_048, 1])
    counts = RequestCounts()
    stream = streams.slices({"request": keys, "row": np.arange(len(keys))})
    batches = streams.read(group_by_request(stream, "request", 8, counts=counts))
    sizes = [len(batch["row"]) for batch in batches]
    # 25 = 3 * 8 + 1, whose last row shares its batch with request 7's.
    assert sizes == [3, 8, 8, 8, 5, *[8] * 256, 1]
    assert counts.cut_requests == 2
    assert capfd.readouterr().err.count("cuts a request of more than 8 rows") == 1


def test_one_key_for_longer_than_the_buffer_does_not_wait_for_ever():
    endless = tf.data.Dataset.counter().map(lambda i: {"request": i * 0, "row": i})
    dataset = group_by_request(endless, "request", 100, buffer_size=300)
    for number, batch in enumerate(dataset.take(50)):
        rows = batch["row"].numpy()
        assert rows.tolist() == list(range(100 * number, 100 * number + 100))


def test_infinite_streams_give_batches():
    endless = tf.data.Dataset.counter().map(lambda i: {"request": i // 7, "row": i})
    dataset = group_by_request(endless, "request", 30)
    for number, batch in enumerate(dataset.take(200)):
        rows = batch["row"].numpy()
        assert rows.tolist() == list(range(28 * number, 28 * number + 28))


def test_tuples_and_several_keys():
    user = np.repeat([1, 2, 1, 2], 3)
    day = np.repeat([b"a", b"a", b"b", b"b"], 3)
    stream = streams.slices((np.arange(12), user, day))
    for key, sizes in (([1, 2], [3, 3, 3, 3]), (2, [5, 1, 5, 1])):
        batches = streams.read(group_by_request(stream, key, 5))
        assert [len(batch[0]) for batch in batches] == sizes
    assert np.concatenate([b[0] for b in batches]).tolist() == list(range(12))


def test_of_several_keys_none_may_be_missing():
    stream = {
        "user": [1, 1, -1, -1, 1],
        "day": [b"x", b"x", b"x", b"x", b""],
        "known": [True, True, False, False, False],
    }
    for key_mask, without, requests in ((None, 0, 3), ("known", 3, 4)):
        counts = RequestCounts()
        dataset = group_by_request(
            streams.slices(stream),
            ["user", "day"],
            2,
            buffer_size=5,
            key_mask=key_mask,
            counts=counts,
        )
        first = streams.read(dataset)[0]
        assert first["user"].tolist() == [1, 1]
        assert counts.rows_without_key == without
        distinct = spread_requests(
            streams.slices(stream),
            ["user", "day"],
            5,
            min_distinct_keys=requests,
            buffer_size=5,
            key_mask=key_mask,
            counts=counts,
        )
        streams.read(distinct)
        assert counts.short_batches == 0


def test_results_do_not_depend_on_how_ids_are_numbered():
    """Moving ids, even below 0, or writing them as strings changes no batch."""
    stream = streams.random_stream(9, num_rows=500)
    places = []
    for form in (
        lambda keys: keys + 1,
        lambda keys: keys - 100_000,
        lambda keys: keys.astype(str).astype(object),
        lambda keys: np.where(keys == keys[0], "", keys.astype(str)).astype(object),
    ):
        renamed = {**stream, "request": form(stream["request"])}
        counts = RequestCounts()
        dataset = group_by_request(
            streams.slices(renamed),
            "request",
            64,
            key_mask="has_request",
            counts=counts,
        )
        places.append([batch["row"].tolist() for batch in streams.read(dataset)])
        assert counts.rows_without_key == np.count_nonzero(~stream["has_request"])
    assert all(other == places[0] for other in places)


def test_an_empty_dataset_gives_no_batches():
    stream = streams.slices({"request": np.zeros(0, np.int64)})
    assert streams.read(group_by_request(stream, "request", 4)) == []


def test_a_restored_iterator_goes_on_where_the_other_was(tmp_path):
    stream = streams.random_stream(4, num_rows=6_000, largest=90)
    dataset = group_by_request(
        streams.slices(stream), "request", 64, key_mask="has_request"
    )
    expected = [batch["row"].tolist() for batch in streams.read(dataset)]
    iterator = iter(dataset)
    for _ in range(30):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "checkpoint"))
    restored = iter(dataset)
    tf.train.Checkpoint(iterator=restored).restore(path).assert_consumed()
    assert [batch["row"].numpy().tolist() for batch in restored] == expected[30:]


@pytest.mark.parametrize("strings", some_of([False, True], [False]))
def test_workers_divide_the_requests(strings):
    stream = streams.random_stream(6, strings=strings)
    keys = streams.key_list(stream)
    batches, owners, rows_in = [], {}, 0
    for pipeline in range(3):
        counts = RequestCounts()
        dataset = group_by_request(
            streams.slices(stream),
            "request",
            64,
            input_context=streams.context(3, pipeline),
            key_mask="has_request",
            counts=counts,
        )
        for batch in streams.read(dataset):
            batches.append(batch)
            for row in batch["row"]:
                owners.setdefault(keys[row], set()).add(pipeline)
        assert 500 < counts.rows_in < 1_500
        rows_in += counts.rows_in
    streams.check_rows(batches, stream)
    assert rows_in == 3_000
    assert all(len(pipelines) == 1 for pipelines in owners.values())


def test_replicas_take_whole_batches(two_replicas):
    stream = streams.random_stream(7, largest=20)

    def pipeline(input_context):
        return group_by_request(
            streams.slices(stream),
            "request",
            32,
            input_context=input_context,
            key_mask="has_request",
        )

    rows = []
    for batch in two_replicas.distribute_datasets_from_function(pipeline):
        for part in two_replicas.experimental_local_results(batch):
            rows.append(part["row"].numpy().tolist())
    expected, _ = packed(streams.key_list(stream), 32)
    assert [part for part in rows if part] == expected


BAD = {
    "no such key": (dict(key="basket"), "'basket'.*request"),
    "a key of floats": (dict(key="vector"), "integers or strings.*key_mask"),
    "an empty batch": (dict(batch_size=0), "`batch_size`.*0"),
    "no batch": (dict(batch_size=None), "`batch_size`.*None"),
    "a batch in words": (dict(batch_size="8"), "`batch_size`.*'8'"),
    "no keys": (dict(key=[]), "`key` must name at least one"),
    "half a row": (dict(batch_size=1.5), "`batch_size`.*1.5"),
    "no buffer": (dict(buffer_size=0), "`buffer_size`.*0"),
    "a buffer below a batch": (dict(buffer_size=7), "8 rows or more, received 7"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    changed, message = BAD[name]
    dataset = streams.slices(streams.random_stream(0))
    with pytest.raises(ValueError, match=message):
        group_by_request(dataset, **{"key": "request", "batch_size": 8, **changed})


@pytest.mark.parametrize(
    ("dataset", "key", "message"),
    [
        (lambda: tf.data.Dataset.range(3), "request", "dicts or tuples"),
        (lambda: [{"k": 1}], "k", "tf.data.Dataset.*received list"),
        (
            lambda: tf.data.Dataset.from_tensors({"k": [1, 2], "weight": 1.0}),
            "k",
            "a row for each.*Repeat it",
        ),
        (lambda: streams.slices((np.arange(3),)), 1, "received 1. Name one of .0."),
        (lambda: streams.slices({"k": np.zeros(3, np.uint64)}), "k", "uint64"),
        (lambda: streams.slices({"k": np.zeros((3, 2, 2), int)}), "k", "rank 0 or 1"),
        (
            lambda: streams.slices({"k": np.array([1.0, np.nan])}),
            "k",
            "by `key_mask`",
        ),
        (
            lambda: streams.slices({"k": tf.ragged.constant([[1], [2, 3]])}),
            "k",
            "to_tensor",
        ),
        (
            lambda: tf.data.Dataset.range(3).map(
                lambda i: {"k": i, "history": tf.range(i)}
            ),
            "k",
            "same shape.*Pad it",
        ),
    ],
)
def test_bad_datasets(dataset, key, message):
    with pytest.raises(ValueError, match=message):
        group_by_request(dataset(), key, 4)


def test_counts_start_anew_with_each_pass():
    counts = RequestCounts()
    stream = streams.random_stream(8)
    dataset = group_by_request(streams.slices(stream), "request", 50, counts=counts)
    for _ in range(2):
        streams.read(dataset)
        assert counts.rows_in == counts.rows_out == 3_000
    assert "rows_in=3000" in repr(counts)
    with pytest.raises(AttributeError, match="no attribute 'rows'"):
        counts.rows  # noqa: B018
