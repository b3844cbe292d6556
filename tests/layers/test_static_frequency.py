import collections
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrs_negatives import metrics
from tfrs_negatives._ids import as_int64
from tfrs_negatives.data import count_ids
from tfrs_negatives.layers import StaticFrequency, StreamingFrequency
from tfrs_negatives.samplers import Popularity

IDS, COUNTS = np.array([7, 10**12, 5]), np.array([3, 1, 4])
ROWS = np.repeat(IDS, COUNTS)  # What was counted.
NAMES = np.array(["b", "a", "é"])
FORMS = {
    "vector": (COUNTS, range(3)),
    "list": (COUNTS.tolist(), range(3)),
    "dict": (dict(zip(NAMES.tolist(), COUNTS, strict=True)), NAMES),
    "negative": ({-7: 3, -(2**62): 1, -1: 4}, [-7, -(2**62), -1]),
    "empty": ({"b": 3, "": 1, "-1": 4}, ["b", "", "-1"]),
    "counter": (collections.Counter(ROWS.tolist()), IDS),
    "series": (pd.Series(ROWS).value_counts(), IDS),
    "series of names": (pd.Series(np.repeat(NAMES, COUNTS)).value_counts(), NAMES),
    "series of shares": (pd.Series(ROWS).value_counts(normalize=True), IDS),
    "categories": (pd.Series(ROWS, dtype="category").value_counts(), IDS),
    "nullable": (pd.Series(ROWS, dtype="Int64").value_counts(), IDS),
    "pair": ((IDS, COUNTS), IDS),
    "pair of two": (([8, 9], [3, 5]), [8]),
    "pair of columns": (
        (pd.Series(IDS, index=[4, 5, 6]), pd.Series(COUNTS, index=[7, 8, 9])), IDS,
    ),
    "unique": (np.unique(ROWS, return_counts=True), IDS),
    "unique names": (np.unique(np.repeat(NAMES, COUNTS), return_counts=True), NAMES),
    "bytes": (([n.encode() for n in NAMES.tolist()], COUNTS), NAMES),
    "dataset": (tf.data.Dataset.from_tensor_slices(ROWS), IDS),
    "count_ids": (
        count_ids(tf.data.Dataset.from_tensor_slices(ROWS), progress=False), IDS,
    ),
    "count_ids of names": (
        count_ids(
            tf.data.Dataset.from_tensor_slices(np.repeat(NAMES, COUNTS)).batch(5),
            progress=False,
        ),
        NAMES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_log_of_the_share(form):
    counts, asked = FORMS[form]
    layer = StaticFrequency(counts)
    expected = np.log(COUNTS / 8)[: len(asked)]
    config = json.loads(json.dumps(layer.get_config()))
    for one in (layer, StaticFrequency.from_config(config)):
        np.testing.assert_allclose(one(tf.constant(asked)), expected, rtol=1e-6)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_all_that_takes_counts_takes_them_in_the_same_forms(form):
    counts, asked = FORMS[form]
    asked = tf.constant(asked)
    streaming = StreamingFrequency(100)
    streaming.warm_start(counts)
    expected = np.log(COUNTS / 8)[: len(asked)]
    np.testing.assert_allclose(streaming(asked), expected, rtol=1e-5)
    error = metrics.LogQError(counts)
    error.update_state(asked, expected.astype(np.float32))
    np.testing.assert_allclose(error.result(), 0, atol=1e-6)
    share = metrics.PopularityShare(counts, top=0.3)
    config = json.loads(json.dumps(share.get_config()))
    popular = np.arange(len(asked)) == (2 if len(asked) == 3 else 1)
    for one in (share, metrics.PopularityShare.from_config(config)):
        found = one._is_popular(as_int64("asked", asked))
        np.testing.assert_array_equal(found, popular)
    bands = metrics.PopularityBands(counts, bands={"head": 0.3, "tail": 1.0})
    np.testing.assert_array_equal(bands(asked) == 0, popular)
    if form not in ("pair of two", "negative", "empty"):
        sampler = Popularity(asked, counts, 1.0)
        np.testing.assert_allclose(sampler.log_q(asked), expected, rtol=1e-5)


def test_rare_ids_are_not_clipped():
    log_q = StaticFrequency([1, 10**9])(tf.constant([0]))
    np.testing.assert_allclose(log_q, [-np.log(10**9 + 1)], rtol=1e-6)


def test_ids_never_counted_count_once():
    frequency = StaticFrequency([3, 0, 5])
    np.testing.assert_allclose(frequency(tf.constant([1, 99])), [-np.log(8)] * 2)


def test_training_changes_nothing():
    frequency = StaticFrequency([3, 1])
    ids = tf.constant([0, 1, 1])
    trained = frequency(ids, num_positives=2, training=True)
    np.testing.assert_array_equal(trained, frequency(ids))
    assert not frequency.trainable_variables


def test_in_a_graph():
    frequency = tf.function(StaticFrequency({"a": 1, "b": 3}))
    np.testing.assert_allclose(
        np.exp(frequency(tf.constant(["b", "a"]))), [0.75, 0.25], rtol=1e-6
    )


@pytest.mark.parametrize("counts", [[1, 2.5, 3], {"x": 2, "y": 1}])
def test_rebuilt_from_its_config(counts):
    frequency = StaticFrequency(counts)
    rebuilt = StaticFrequency.from_config(frequency.get_config())
    ids = tf.constant(["x", "y"] if isinstance(counts, dict) else [0, 1, 2])
    np.testing.assert_array_equal(rebuilt(ids), frequency(ids))


@pytest.mark.parametrize(
    "counts, message",
    [
        ([], "non-empty"),
        ([[1, 2]], "vector.*(1, 2)"),
        ([[4, 5], [1, 2]], "tuple `.ids, counts.`"),
        ([1, -1], "none negative"),
        ([0, 0], "at least positive"),
        ([1, np.nan], "finite"),
        (([1], [1, 2]), "1 ids and 2 counts"),
        (([4, 4], [1, 2]), "distinct"),
        (([0.5, 1.5], [1, 2]), "integers of 64 bits or strings"),
        ({0.5: 2}, "received float"),
        ({True: 2}, "received bool"),
        (["a", "b"], "`counts` must be numbers"),
        (pd.Series(["a", "b"]), "`counts` must be numbers"),
        (pd.DataFrame({"id": [1], "count": [2]}), "name the columns.* DataFrame"),
        (pd.Series([1.0, None]).value_counts(dropna=False), "received float64"),
        (pd.Series([1, 2], index=[7, 7]), "distinct"),
    ],
)
def test_bad_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        StaticFrequency(counts)


def test_ids_and_counts_are_one_argument():
    for make in (StaticFrequency, metrics.PopularityShare, metrics.LogQError):
        with pytest.raises(TypeError, match="positional arguments"):
            make(IDS, COUNTS)


def test_ids_of_another_kind():
    with pytest.raises(ValueError, match="must be integers.*string"):
        StaticFrequency([1, 2])(tf.constant(["a"]))
    with pytest.raises(ValueError, match="must be strings.*int32"):
        StaticFrequency({"a": 1})(tf.constant([1]))


@pytest.mark.parametrize("batch_size", [1, 7, 10**6])
def test_probability_of_occurring_in_a_batch(batch_size):
    counts = np.array([10**9, 40, 1])
    p = counts / counts.sum()
    expected = 1 - (1 - p.astype(np.longdouble)) ** batch_size
    frequency = StaticFrequency(counts, batch_size=batch_size)
    log_q = frequency(tf.range(3))
    np.testing.assert_allclose(
        log_q, np.log(expected).astype(float), atol=1e-7, rtol=1e-6
    )
    # Never counted is as counted once.
    np.testing.assert_allclose(frequency(tf.constant([9])), log_q[2:], rtol=1e-6)


def test_one_item_alone_occurs_in_every_batch():
    log_q = StaticFrequency([5], batch_size=3)(tf.constant([0]))
    np.testing.assert_array_equal(log_q, [0.0])


def test_smoothing_adds_to_every_count():
    frequency = StaticFrequency([3, 0, 5], smoothing=0.5)
    expected = np.array([3.5, 0.5, 5.5, 0.5]) / 9.5
    np.testing.assert_allclose(
        np.exp(frequency(tf.constant([0, 1, 2, 77]))), expected, rtol=1e-6
    )


def test_counts_of_a_dataset():
    dataset = tf.data.Dataset.from_tensor_slices(["b", "a", "b", "b"])
    log_q = StaticFrequency(dataset)(tf.constant(["a", "b"]))
    np.testing.assert_allclose(np.exp(log_q), [0.25, 0.75], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size.*at least 1"),
        ({"smoothing": -1.0}, "smoothing.*at least 0"),
        ({"smoothing": float("nan")}, "smoothing.*at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StaticFrequency([1, 2], **options)


def test_options_are_in_the_config():
    frequency = StaticFrequency([3, 1], batch_size=4, smoothing=0.25)
    rebuilt = StaticFrequency.from_config(frequency.get_config())
    ids = tf.constant([0, 1, 2])
    np.testing.assert_array_equal(frequency(ids), rebuilt(ids))
