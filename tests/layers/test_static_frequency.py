import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.layers import StaticFrequency


@pytest.mark.parametrize(
    "counts, ids, asked",
    [
        ([3, 1, 0, 4], None, [0, 1, 3]),
        ([3, 1, 4], [-7, 10**12, 5], [-7, 10**12, 5]),
        ({"b": 3, "a": 1, "": 4}, None, ["b", "a", ""]),
    ],
)
def test_log_of_the_share(counts, ids, asked):
    log_q = StaticFrequency(counts, ids)(tf.constant(asked))
    np.testing.assert_allclose(log_q, np.log(np.array([3, 1, 4]) / 8), rtol=1e-6)


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
    "counts, ids, message",
    [
        ([], None, "non-empty"),
        ([[1, 2]], None, "vector.*(1, 2)"),
        ([1, -1], None, "none negative"),
        ([0, 0], None, "at least positive"),
        ([1, np.nan], None, "finite"),
        ([1, 2], [1], "1 ids and 2 counts"),
        ([1, 2], [4, 4], "distinct"),
        ({1: 2}, [1], "ids=None"),
        ([1, 2], [0.5, 1.5], "integers or strings"),
    ],
)
def test_bad_counts(counts, ids, message):
    with pytest.raises(ValueError, match=message):
        StaticFrequency(counts, ids)


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
