"""What a user did last, pooled, against NumPy on the same weights."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tfrs_negatives import towers
from tfrs_negatives._keras import keras
from tfrs_negatives.towers.history import POOLINGS

DIM, LENGTH = 4, 3
ITEMS = [f"item {i}" for i in range(6)]


def made(pooling, dim=DIM, length=LENGTH):
    """A history and its items, with weights large enough to tell apart."""
    items = towers.Id("item").adapt(ITEMS)
    history = towers.History("history", length=length, pooling=pooling, dim=dim)
    history.share(items)
    history(tf.constant([ITEMS[:1]]))
    rng = np.random.default_rng(0)
    for layer in (items, history):
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return history, items


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def attended(history, inputs):
    """What multi-head attention makes of one user's vectors [n, DIM], normalised."""
    weights = map(np.float64, history.attend.get_weights())
    q, q_bias, k, k_bias, v, v_bias, out, out_bias = weights
    found = np.zeros_like(inputs) + out_bias
    for head in range(q.shape[1]):
        queries = inputs @ q[:, head] + q_bias[head]
        keys = inputs @ k[:, head] + k_bias[head]
        shares = softmax(queries @ keys.T / np.sqrt(q.shape[2]))
        found += shares @ (inputs @ v[:, head] + v_bias[head]) @ out[head]
    gamma, beta = map(np.float64, history.norm.get_weights())
    centred = found - found.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    return centred / np.sqrt(variance + history.norm.epsilon) * gamma + beta


def expected_of(history, items, row):
    """Of one user's items, the newest last; float64."""
    table = np.float64(np.asarray(items.embeddings.embeddings))
    known = [1 + ITEMS.index(item) for item in row if item in ITEMS]
    known = known[-history.length :]
    if not known:
        return np.float64(np.asarray(history.empty))[0]
    vectors = table[known]
    shares = np.full(len(known), 1 / len(known))
    if history.pooling != "mean":
        order = np.float64(np.asarray(history.recency))[np.arange(len(known))[::-1]]
        if history.pooling == "self_attention":
            vectors = vectors + attended(history, vectors + order)
        kernel, bias = map(np.float64, history.key.get_weights())
        (weigh,) = map(np.float64, history.weigh.get_weights())
        logits = np.tanh((vectors + order) @ kernel + bias) @ weigh[:, 0]
        shares = softmax(logits)
    return shares @ vectors @ np.float64(history.project.get_weights()[0])


ROWS = [
    ITEMS[:2],
    [],
    ["never seen"],
    ITEMS[::-1],
    ["never seen", ITEMS[4], "nor this", ITEMS[4], "or this"],
]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_ragged_and_padded_rows_are_pooled(pooling):
    history, items = made(pooling)
    ragged = tf.ragged.constant(ROWS, dtype=tf.string)
    expected = [expected_of(history, items, row) for row in ROWS]
    np.testing.assert_allclose(history(ragged), expected, rtol=1e-5, atol=1e-6)
    for padding in ("", "no item"):
        padded = ragged.to_tensor(padding)
        np.testing.assert_array_equal(history(padded), history(ragged))
    np.testing.assert_allclose(
        tf.function(history)(ragged), expected, rtol=1e-5, atol=1e-6
    )
    # All rows are empty: there is no column at all.
    empty = history(tf.ragged.constant([[], []], dtype=tf.string))
    np.testing.assert_allclose(empty, expected[1:2] * 2, rtol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_do_not_depend_on_each_other(pooling):
    history, _ = made(pooling)
    ragged = tf.ragged.constant(ROWS, dtype=tf.string)
    alone = [history(ragged[row : row + 1])[0] for row in range(len(ROWS))]
    np.testing.assert_allclose(history(ragged), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_are_finite_and_reach_the_items(pooling):
    history, items = made(pooling)
    table = items.embeddings.embeddings
    table = (
        getattr(table, "value", table)
        if not callable(getattr(table, "value", None))
        else table
    )
    ragged = tf.ragged.constant(ROWS, dtype=tf.string)
    with tf.GradientTape() as tape:
        tape.watch(table)
        total = tf.reduce_sum(history(ragged) ** 2)
    gradient = tf.convert_to_tensor(tape.gradient(total, table)).numpy()
    assert np.isfinite(gradient).all()
    is_moved = np.abs(gradient).sum(axis=1) > 0
    # The newest three of row 3 are items 2, 1, 0; unknown ones move nothing.
    assert is_moved.tolist() == [False, True, True, True, False, True, False]


def test_numbers_are_ids_too():
    items = towers.Id("item").adapt([-1, 0, 7])
    history = towers.History(length=2, pooling="mean", dim=DIM)
    history.share(items)
    found = history(tf.constant([[-1, 0, 100], [100, 100, 7]], tf.int64))
    table = np.asarray(items.embeddings.embeddings)
    kernel = history.project.get_weights()[0]
    np.testing.assert_allclose(
        found, [(table[1] + table[2]) / 2 @ kernel, table[3] @ kernel], rtol=1e-5
    )
    assert history.signature() == tf.TensorSpec([None, None], tf.int64, "history")


def test_lists_become_ragged():
    items = towers.Id("item").adapt(ITEMS)
    history = towers.History()
    history.share(items)
    lists = [["a"], [], ["b", "c"]]
    for rows in (lists, [np.array(["a"]), [], ("b", "c")], pa.array(lists)):
        found = history.tensor(rows)
        assert found.to_list() == [[b"a"], [], [b"b", b"c"]]
    assert history.tensor([[], []]).to_list() == [[], []]


def test_embeddings_must_be_shared_once():
    history = towers.History(dim=DIM)
    with pytest.raises(ValueError, match="no embeddings of items yet.*TwoTower"):
        history(tf.constant([["a"]]))
    with pytest.raises(ValueError, match="knows no values yet"):
        history.share(towers.Id("item"))
    items = towers.Id("item").adapt(ITEMS)
    history.share(items)
    history.share(items)
    with pytest.raises(ValueError, match="another item tower's"):
        history.share(towers.Id("item").adapt(ITEMS))
    other = towers.History(dim=DIM + 1)
    history(tf.constant([["a"]]))
    other.share(items)
    with pytest.raises(ValueError, match="as wide as the tower"):
        other(tf.constant([["a"]]))
    with pytest.raises(ValueError, match="must hold strings"):
        history(tf.constant([[1]]))


def test_configuration():
    history = towers.History("past", length=7, pooling="mean")
    config = keras.utils.serialize_keras_object(history)
    other = keras.utils.deserialize_keras_object(config)
    assert (
        repr(other)
        == repr(history)
        == ("History(column='past', length=7, pooling='mean')")
    )
