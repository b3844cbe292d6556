"""A tower is the sum of its features, what is beside them, and of length 1."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrs_negatives import towers
from tfrs_negatives._keras import keras

DIM = 4
TABLE = {
    "item": [1, 2, 3, 4],
    "genre": ["a", "b", None, "a"],
    "price": [1.0, None, 3.0, 4.0],
}


def features():
    return [towers.Id("item"), towers.Categorical("genre"), towers.Numeric("price")]


def tower(**options):
    made = towers.Tower(features(), dim=DIM, **options).adapt(TABLE)
    made(made.tensors(TABLE))
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(size=w.shape) for w in made.get_weights()])
    return made


@pytest.mark.parametrize("hidden", [(), (5, 6)])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_sum_of_features_and_what_layers_add(hidden, normalize):
    made = tower(hidden=hidden, normalize=normalize)
    columns = made.tensors(TABLE)
    vectors = [np.float64(f(columns[f.column])) for f in made.features]
    expected = np.sum(vectors, axis=0)
    if hidden:
        deep = np.concatenate(vectors, axis=1)
        for layer, width in zip(made._stack, [*hidden, DIM], strict=True):
            kernel, bias = map(np.float64, layer.get_weights())
            assert kernel.shape[1] == width
            deep = deep @ kernel + bias
            if width != DIM:
                deep = np.maximum(deep, 0)
        expected += deep
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(made(columns), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.embed(TABLE, 3), expected, rtol=1e-5, atol=1e-6)
    assert made.embed(pd.DataFrame(TABLE)).dtype == np.float32


def test_columns_of_others_are_passed_over():
    made = tower()
    columns = made.tensors(TABLE)
    more = {**columns, "user": tf.constant(["x"] * 4)}
    np.testing.assert_array_equal(made(more), made(columns))
    assert made.columns == ("item", "genre", "price")
    assert made.signature() == {
        "item": tf.TensorSpec([None], tf.int64, "item"),
        "genre": tf.TensorSpec([None], tf.string, "genre"),
        "price": tf.TensorSpec([None], tf.float64, "price"),
    }


def test_one_column_needs_no_name():
    made = towers.Tower([towers.Id("item")], dim=DIM).adapt(TABLE)
    ids = tf.constant([2, 4, 9])
    np.testing.assert_array_equal(made(ids), made({"item": ids}))
    np.testing.assert_array_equal(made(ids)[2], np.zeros(DIM))  # unknown


def test_what_says_nothing_is_left_out_and_told():
    table = {
        **TABLE,
        "empty": [None] * 4,
        "constant": ["x"] * 4,
        "again": TABLE["genre"],
        "level": [5.0] * 4,
        "one of two": ["x", None, "x", "x"],
    }
    names = ["empty", "constant", "genre", "again", "one of two"]
    made = towers.Tower(
        [*map(towers.Categorical, names), towers.Numeric("level")], dim=DIM
    ).adapt(table)
    assert made.columns == ("genre", "one of two")
    assert made.describe() == [
        "empty: 0 categories, all missing: left out",
        "constant: 1 categories: left out, as all rows are equal",
        "genre: 2 categories, 25.0% missing",
        "again: 2 categories, 25.0% missing: left out, as it equals 'genre'",
        "one of two: 1 categories, 25.0% missing",
        "level: mean 5, deviation 0: left out, as all rows are equal",
    ]
    config = keras.utils.serialize_keras_object(made)
    other = keras.utils.deserialize_keras_object(config)
    assert other.columns == made.columns
    assert other.describe() == made.describe()
    alone = towers.Tower([towers.Categorical("constant")], dim=DIM).adapt(table)
    assert alone.embed(table).shape == (4, DIM)


def test_a_column_may_be_several_features():
    made = towers.Tower(
        [towers.Categorical("item"), towers.Numeric("item"), towers.Id("item")], dim=2
    ).adapt(TABLE)
    assert made.columns == ("item",)
    assert made.embed(TABLE).shape == (4, 2)


def test_eager_graph_and_rebuilt_are_equal():
    made = tower(hidden=[5])
    columns = made.tensors(TABLE)
    expected = made(columns).numpy()
    graph = tf.function(lambda c: made(c))(columns)
    np.testing.assert_allclose(graph, expected, rtol=1e-6)
    other = towers.Tower.from_config(made.get_config())
    other.build()
    other.set_weights(made.get_weights())
    np.testing.assert_array_equal(other(columns), expected)


@pytest.mark.parametrize(
    "run, message",
    [
        (lambda: towers.Tower([]), "at least one feature"),
        (lambda: towers.Tower(["genre"]), "must be features.*received 'genre'"),
        (
            lambda: towers.Tower([*features(), towers.Numeric("price", 3)]),
            r"each feature once, received Numeric\('price'\)",
        ),
        (lambda: towers.Tower([towers.Id("x", dim=3)], dim=4), "as wide as the tower"),
        (
            lambda: towers.Tower([towers.Id("x", name="a"), towers.Id("y", name="a")]),
            "names of their own",
        ),
        (lambda: towers.Tower([towers.Id("user")]).adapt(TABLE), "column 'user'"),
        (lambda: tower().adapt(TABLE), "has weights by now"),
        (lambda: tower()({"item": tf.constant([1])}), "without 'genre' and 'price'"),
        (lambda: tower()(tf.constant([1])), r"dict of the columns \['item', 'genre'"),
        (
            lambda: towers.Tower(features())(
                {"item": tf.constant([1]), "genre": tf.constant([""])}
            ),
            "knows no values yet",
        ),
    ],
)
def test_errors(run, message):
    with pytest.raises(ValueError, match=message):
        run()
