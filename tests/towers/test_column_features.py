"""Each feature's vectors, against NumPy on the same tables of embeddings."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import towers
from tfrs_negatives._keras import keras

DIM = 3


def table(feature):
    """The feature's embeddings, drawn so that no row is zeros; float64."""
    if not feature.built:
        feature.build()
    weights = feature.embeddings.embeddings
    values = np.random.default_rng(1).normal(size=weights.shape).astype(np.float32)
    weights.assign(values)
    return np.float64(values)


def vectors(feature, values, **options):
    return feature(tf.constant(values), **options).numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ids", [["tea", "", "milk"], [7, -1, 0]])
def test_every_id_has_an_embedding_and_others_share_one(ids):
    feature = towers.Id("item", dim=DIM).adapt(ids)
    assert feature.ids.tolist() == sorted(ids)
    assert feature.summary == "item: 3 ids"
    feature.build()
    unknown = "coffee" if isinstance(ids[0], str) else 1000
    np.testing.assert_array_equal(vectors(feature, [unknown]), np.zeros([1, DIM]))
    rows = table(feature)
    close(
        vectors(feature, [*ids, unknown]),
        rows[[1 + sorted(ids).index(i) for i in ids] + [0]],
    )
    feature.average_unknown()
    close(vectors(feature, [unknown])[0], rows[1:].mean(axis=0))


def test_training_takes_some_ids_for_unknown():
    feature = towers.Id("item", unknown_share=0.25, dim=DIM).adapt(np.arange(10))
    ids = np.random.default_rng(0).integers(0, 10, 4000)
    rows = table(feature)
    close(vectors(feature, ids), rows[1 + ids])
    found = vectors(feature, ids, training=True)
    is_unknown = (np.abs(found - rows[0]) < 1e-6).all(axis=1)
    close(found[~is_unknown], rows[1 + ids[~is_unknown]])
    # Beyond 4.5 deviations by chance once in 150,000 runs.
    assert abs(is_unknown.mean() - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("ids", [[1, None], ["a", None], [1.5, 2.0], [1, "a"]])
def test_ids_must_be_there(ids):
    with pytest.raises(ValueError, match="'item' must hold ids"):
        towers.Id("item").adapt(ids)


@pytest.mark.parametrize(
    "column, asked, expected",
    [
        (["b", "a", None, "b"], ["a", "b", "", "c"], [2, 3, 0, 1]),
        ([5, -3, 5], [-3, 5, 4], [2, 3, 1]),
        ([5, None, -3], [-3.0, 5.0, np.nan, 4.0], [2, 3, 0, 1]),
        ([None, None], [np.nan, 1.0], [0, 1]),
    ],
)
def test_missing_and_unknown_categories_have_embeddings(column, asked, expected):
    feature = towers.Categorical("x", dim=DIM).adapt(column)
    feature.build()
    np.testing.assert_array_equal(feature.embeddings.embeddings[:2], np.zeros([2, DIM]))
    rows = table(feature)
    close(vectors(feature, asked), rows[expected])


@pytest.mark.parametrize("form", ["separated", "ragged", "matrix"])
def test_several_categories_a_row_are_averaged(form):
    lists = [["b", "a"], [], ["a", "new"], ["b"]]
    if form == "separated":
        feature = towers.Categorical("x", separator="|", dim=DIM)
        values = tf.constant(["b|a", "", "a|new", "b||"])
        feature.adapt(["b|a", None, "a"])
    else:
        feature = towers.Categorical("x", dim=DIM).adapt([["b", "a"], [], ["a"]])
        values = tf.ragged.constant(lists)
        if form == "matrix":
            values = values.to_tensor("")
    assert feature.categories.tolist() == ["a", "b"]
    assert feature.summary == "x: 2 categories, 33.3% missing"
    rows = table(feature)
    number = {"a": 2, "b": 3, "new": 1}
    expected = [rows[[number[c] for c in row] or [0]].mean(axis=0) for row in lists]
    close(feature(values).numpy(), expected)


def test_of_many_categories_the_most_frequent_are_kept():
    rng = np.random.default_rng(0)
    column = rng.permutation(np.repeat(np.arange(1000), np.arange(1000, 0, -1)))
    feature = towers.Categorical("x", max_categories=10, dim=DIM).adapt(column)
    assert feature.categories.tolist() == list(range(10))
    others = 1 - np.arange(1000, 990, -1).sum() / len(column)
    assert feature.summary == (
        "x: the 10 categories that are most frequent, "
        f"{others:.1%} of values are others"
    )
    rows = table(feature)
    assert len(rows) == 12
    close(vectors(feature, [3, 500]), rows[[5, 1]])


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("most", [1, 7, 30, None])
def test_the_most_frequent_values_and_of_equals_the_least(kind, most):
    drawn = np.random.default_rng(0).integers(-15, 15, 90).astype(kind).tolist()
    counts = collections.Counter(drawn)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))[:most]
    feature = towers.Categorical("x", max_categories=most or 1000).adapt(drawn)
    assert feature.categories.tolist() == sorted(ranked)


def test_numbers_are_standardised():
    column = np.array([1.0, 5.0, np.nan, 9.0])
    feature = towers.Numeric("x", dim=DIM).adapt(column)
    rows = table(feature)
    deviation = np.std([1, 5, 9])
    asked = np.array([1.0, 9.0, 1e6, -1e6])
    expected = np.clip((asked - 5) / deviation, -5, 5)[:, None] * rows[1]
    close(vectors(feature, asked), expected)
    close(vectors(feature, [np.nan])[0], rows[0])
    close(vectors(feature, [9]), (9 - 5) / deviation * rows[1:])


def test_buckets_have_equally_many_rows():
    column = np.exp(np.random.default_rng(0).normal(size=1000) * 4)
    feature = towers.Numeric("x", buckets=4, dim=DIM).adapt(column)
    assert feature.summary == "x: 4 buckets"
    rows = table(feature)
    found = vectors(feature, [*np.sort(column), np.nan])
    close(found, rows[[*np.repeat([1, 2, 3, 4], 250), 0]])
    few = towers.Numeric("x", buckets=4, dim=DIM).adapt([2, 2, 2, 2, 3])
    assert few.summary == "x: 2 buckets"
    rows = table(few)
    close(vectors(few, [2, 3]), rows[[1, 2]])


def test_text_is_the_mean_of_its_n_grams():
    feature = towers.Text("title", num_buckets=50, dim=DIM)
    feature.adapt(["Toy Story (1995)", None])
    assert feature.summary == "title: text of 3.0 words, 50.0% missing"
    rows = table(feature)
    hashed = keras.layers.Hashing(50)

    def bucket(text):
        return 1 + int(hashed(tf.constant([text]))[0])

    grams = ["toy", "story", "1995", "toy story", "story 1995"]
    expected = rows[[bucket(gram) for gram in grams]].mean(axis=0)
    texts = ["Toy Story (1995)", "  TOY, story: 1995!", "", " -- ", "\u00c9t\u00e9"]
    found = vectors(feature, texts)
    summer = rows[bucket("\u00e9t\u00e9")]
    close(found, [expected, expected, rows[0], rows[0], summer])


def test_a_date_is_the_sum_of_its_parts():
    column = np.array(["2024-02-29T23:10", "2023-07-01T05:00", "NaT"], "M8[s]")
    feature = towers.Date("when", dim=DIM).adapt(column)
    assert feature.summary == "when: age, month, weekday, hour, 33.3% missing"
    rows = table(feature)
    seconds = column[:2].astype(np.int64)
    z = (seconds - seconds.mean()) / seconds.std()
    # February and July; Thursday, from which 1970 counts, and Saturday.
    places = [[2 + 1, 14 + 0, 21 + 23], [2 + 6, 14 + 2, 21 + 5]]
    expected = [z[i] * rows[1] + rows[places[i]].sum(axis=0) for i in range(2)]
    close(feature(feature.tensor(column)).numpy(), [*expected, rows[0]])
    every = np.arange("1895-01-01", "2105-01-01", dtype="M8[D]")
    months = towers.Date("when", parts=["month"], dim=DIM).adapt(every)
    rows = table(months)
    expected = rows[2 + every.astype("M8[M]").astype(int) % 12]
    close(months(months.tensor(every)).numpy(), expected)
    days = towers.Date("when").adapt(np.array(["2024-02-29", "2023-07-01"], "M8[D]"))
    assert days.summary == "when: age, month, weekday"
    hours = towers.Date("when", parts=["hour"], dim=DIM).adapt(column)
    rows = table(hours)
    close(hours(hours.tensor(column[:1])).numpy(), rows[[2 + 23]])


@pytest.mark.parametrize(
    "feature, column, message",
    [
        (towers.Categorical("x"), [1.5, 2.0], "Use `towers.Numeric`"),
        (towers.Categorical("x", separator="|"), [1, 2], "Leave out `separator`"),
        (towers.Categorical("x"), [1, "a"], "received int and str"),
        (towers.Numeric("x"), ["a"], "received strings. Use `towers.Categorical`"),
        (towers.Numeric("x"), [1.0, np.inf], "finite"),
        (towers.Numeric("x"), [[1], [2]], "one value a row for Numeric"),
        (towers.Text("x"), [1, 2], "must hold strings for `towers.Text`"),
        (towers.Date("x"), ["2020-01-01"], "pandas.to_datetime"),
        (towers.Date("x"), [np.inf, 1.0], "finite"),
        (towers.Numeric("x"), [], "at least one row"),
    ],
)
def test_columns_that_do_not_fit(feature, column, message):
    with pytest.raises(ValueError, match=message) as error:
        feature.adapt(column)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: towers.Categorical(""), "`column` must be the name"),
        (lambda: towers.Categorical("x", dim=0), "`dim` must be a positive int"),
        (lambda: towers.Categorical("x", max_categories=0), "`max_categories`"),
        (lambda: towers.Categorical("x", separator=""), "`separator`"),
        (lambda: towers.Numeric("x", buckets=1), "`buckets` must be at least 2"),
        (lambda: towers.Text("x", ngrams=0), "`ngrams` must be at least 1"),
        (lambda: towers.Date("x", parts=["year"]), "`parts` must be of 'age'"),
        (lambda: towers.Id("x", unknown_share=1.0), r"must be in \[0, 1\)"),
        (lambda: towers.History(length=0), "length"),
        (lambda: towers.History(pooling="max"), "pooling"),
    ],
)
def test_arguments_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_calls_that_do_not_fit():
    feature = towers.Categorical("x", dim=DIM)
    with pytest.raises(ValueError, match="knows no values yet. Call `adapt`"):
        feature(tf.constant(["a"]))
    feature.adapt(["a", "b"])
    with pytest.raises(ValueError, match="'x' must hold strings.*received int32"):
        feature(tf.constant([1]))
    with pytest.raises(ValueError, match=r"'x' must have shape \[B\] or \[B, V\]"):
        feature(tf.constant("a"))
    feature(tf.constant(["a"]))
    with pytest.raises(ValueError, match="has weights by now"):
        feature.adapt(["a"])
    with pytest.raises(ValueError, match="called without a tower"):
        towers.Numeric("y").adapt([1, 2])(tf.constant([1.0]))


ADAPTED = {
    "Id": (lambda: towers.Id("x", unknown_share=0.1, dim=DIM), ["a", "b"]),
    "Categorical": (
        lambda: towers.Categorical("x", separator="|", max_categories=5, dim=DIM),
        ["a|b", None],
    ),
    "Numeric": (lambda: towers.Numeric("x", dim=DIM), [1.0, 5.0, None]),
    "buckets": (lambda: towers.Numeric("x", buckets=2, dim=DIM), [1, 5, 6]),
    "Text": (lambda: towers.Text("x", ngrams=1, num_buckets=9, dim=DIM), ["a b"]),
    "Date": (lambda: towers.Date("x", parts=["hour", "age"], dim=DIM), [1, 9999]),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_configurations_have_what_was_learned(name):
    make, column = ADAPTED[name]
    feature = make().adapt(column)
    config = keras.utils.serialize_keras_object(feature)
    other = keras.utils.deserialize_keras_object(config)
    assert repr(other) == repr(feature)
    assert other.summary == feature.summary
    assert other.signature() == feature.signature()
    values = feature.tensor(column)
    expected = feature(values)
    if not other.built:
        other.build()
    other.set_weights(feature.get_weights())
    np.testing.assert_array_equal(other(values), expected)
    assert other.get_config() == feature.get_config()
