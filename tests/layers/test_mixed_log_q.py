import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.layers import MixedLogQ, StaticFrequency, StreamingFrequency
from tfrs_negatives.samplers import Popularity

COUNTS = np.array([5, 2, 2, 1])


def test_batch_and_uniform():
    """Both blocks get (B q + K u) / (B + K)."""
    layer = MixedLogQ([StaticFrequency(COUNTS), -np.log(4)])
    ids = np.array([0, 1, 3, 3, 0, 1, 2])
    expected = (3 * COUNTS[ids] / 10 + 4 / 4) / 7
    log_q = layer(tf.constant(ids), num_positives=3)
    np.testing.assert_allclose(np.exp(log_q), expected, rtol=1e-6)


def test_three_sources():
    other = StaticFrequency([1, 1, 8, 10])
    layer = MixedLogQ([StaticFrequency(COUNTS), other, -np.log(4)], sizes=[1, 3])
    ids = np.array([0, 3, 2, 1, 1, 0])
    q = COUNTS / 10
    popular = np.array([1, 1, 8, 10]) / 20
    expected = (2 * q + 1 * popular + 3 / 4)[ids] / 6
    log_q = layer(tf.constant(ids), num_positives=2)
    np.testing.assert_allclose(np.exp(log_q), expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [[None, 3], [1, None]])
def test_one_block_has_what_the_others_leave(sizes):
    sources = [StaticFrequency(COUNTS), StaticFrequency([1, 1, 8, 10]), -np.log(4)]
    ids = tf.constant([0, 3, 2, 1, 1, 0])
    expected = MixedLogQ(sources, [1, 3])(ids, num_positives=2)
    layer = MixedLogQ(sources, sizes)
    np.testing.assert_array_equal(layer(ids, num_positives=2), expected)
    rebuilt = MixedLogQ.from_config(layer.get_config())
    np.testing.assert_array_equal(rebuilt(ids, num_positives=2), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must leave columns"):
        MixedLogQ(sources, [None, 5])(ids, num_positives=2)


def test_without_extra_columns_the_batch_stands_alone():
    layer = MixedLogQ([StaticFrequency(COUNTS), -np.log(4)])
    ids = tf.constant([0, 1, 2])
    np.testing.assert_allclose(layer(ids), StaticFrequency(COUNTS)(ids), rtol=1e-6)


def test_an_id_that_no_source_draws_is_finite():
    """A batch without rows: only the sampler's columns, which lack items 1 and 9."""
    popular = Popularity(np.arange(4), [3, 0, 1, 4], 1.0).log_q
    layer = MixedLogQ([StaticFrequency(COUNTS), popular])
    log_q = layer(tf.constant([0, 1, 2, 3, 9]), num_positives=0)
    np.testing.assert_allclose(np.exp(log_q), [3 / 8, 1 / 8, 1 / 8, 4 / 8, 1 / 8])


@pytest.mark.parametrize("graph", [False, True])
def test_only_the_first_source_learns_from_the_batch_alone(graph):
    first, second = StreamingFrequency(1000), StreamingFrequency(1000)
    layer = MixedLogQ([first, second])
    call = tf.function(layer) if graph else layer
    call(tf.constant([1, 1, 2, 9]), num_positives=3, training=True)
    np.testing.assert_allclose(
        np.exp(first(tf.constant([1, 2, 9]))), [2 / 3, 1 / 3, 1 / 4], rtol=1e-6
    )
    assert not any(np.any(v.numpy()) for v in second.variables)


def test_what_the_first_source_learned_is_checkpointed(tmp_path):
    ids = tf.constant([1, 1, 2, 5])
    mixed, restored = (MixedLogQ([StreamingFrequency(9), -2.0]) for _ in range(2))
    mixed(ids, num_positives=3, training=True)
    path = tf.train.Checkpoint(layer=mixed).save(tmp_path / "state")
    assert not np.array_equal(restored(ids), mixed(ids))
    tf.train.Checkpoint(layer=restored).restore(path).assert_consumed()
    np.testing.assert_array_equal(restored(ids), mixed(ids))


def test_rebuilt_from_its_config():
    layer = MixedLogQ([StaticFrequency(COUNTS), -2.0, StaticFrequency([1] * 4)], [1, 2])
    rebuilt = MixedLogQ.from_config(layer.get_config())
    ids = tf.constant([0, 1, 2, 3])
    np.testing.assert_array_equal(
        rebuilt(ids, num_positives=1), layer(ids, num_positives=1)
    )


@pytest.mark.parametrize(
    "sources, sizes, message",
    [
        ([-1.0], None, "two sources.*received 1"),
        ([-1.0, -1.0, -1.0], None, "two sources, or more and their `sizes`"),
        ([-1.0, -1.0], [1, 2], "expected 1, received 2"),
        ([-1.0, 0.25], None, "log probability.*0.25"),
        ([-1.0, -1.0, -1.0], [None, None], "left to one block"),
    ],
)
def test_bad_sources(sources, sizes, message):
    with pytest.raises(ValueError, match=message):
        MixedLogQ(sources, sizes)


def test_sizes_must_match_the_columns():
    layer = MixedLogQ([-1.0, -1.0], sizes=[3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="add up"):
        layer(tf.constant([1, 2, 3, 4]), num_positives=2)
