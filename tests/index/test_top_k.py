"""What holds for every index, exact or not, on corpora that both search exactly."""

import collections
import gc

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from index_oracles import as_list, best, normal

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.index import BruteForce, ScaNN

QUERIES = normal(0, 5, 8)
CANDIDATES = normal(1, 60, 8)

both = pytest.mark.parametrize("index_class", [BruteForce, ScaNN])


def ids_of(dtype, count=60):
    """Ids of which half are negative, -1 among them; of strings one is empty."""
    numbers = np.random.default_rng(2).permutation(count) - 30
    if dtype != "string":
        return numbers.tolist()
    return ["" if n == -1 else f"item {n}" for n in numbers]


@both
@pytest.mark.parametrize("dtype", ["int32", "int64", "string", "float32"])
def test_ids_of_every_dtype(index_class, dtype):
    ids = ids_of(dtype)
    index = index_class(k=4).index(CANDIDATES, tf.constant(ids, dtype))
    scores, found = index(QUERIES)
    expected_scores, expected = best(QUERIES, CANDIDATES, 4, ids)
    assert found.dtype == tf.as_dtype(dtype)
    assert as_list(found) == expected
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


@both
def test_k_as_argument(index_class):
    index = index_class(k=3).index(CANDIDATES)
    expected = best(QUERIES, CANDIDATES, 60)[1]
    for k in (1, 60, np.int64(9), tf.constant(5), tf.constant(6, tf.int64)):
        assert as_list(index(QUERIES, k=k)[1]) == [row[: int(k)] for row in expected]
        assert as_list(index(QUERIES, k)[1]) == [row[: int(k)] for row in expected]
    assert index(QUERIES)[1].shape == (5, 3)


@both
def test_k_is_an_input_of_a_traced_function(index_class):
    index = index_class().index(CANDIDATES)
    query = tf.function(lambda q, k: index(q, k=k)[1])
    expected = best(QUERIES, CANDIDATES, 60)[1]
    for k in (2, 60):
        found = query(tf.constant(QUERIES), tf.constant(k))
        assert as_list(found) == [row[:k] for row in expected]
    assert query.experimental_get_tracing_count() == 1
    for k in (0, 61):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`k` must be from 1"):
            query(tf.constant(QUERIES), tf.constant(k))


@both
@pytest.mark.parametrize("dtype", ["int64", "string"])
@pytest.mark.parametrize("width", [0, 1, 20, 100])
def test_exclusions(index_class, dtype, width):
    ids = ids_of(dtype)
    filler = "" if dtype == "string" else -1
    rng = np.random.default_rng(width)
    # Repeats, unknown ids, and often the id that is negative or empty.
    pool = ids + ids_of(dtype, 200)[60:] + [filler] * 10
    exclusions = [[pool[i] for i in rng.integers(0, len(pool), width)] for _ in QUERIES]
    index = index_class().index(CANDIDATES, tf.constant(ids, dtype))
    scores, found = index.query_with_exclusions(
        QUERIES, tf.reshape(tf.constant(exclusions, dtype), [5, width]), k=15
    )
    expected_scores, expected = best(
        QUERIES, CANDIDATES, 15, ids, exclusions=exclusions, filler=filler
    )
    assert as_list(found) == expected
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("dtype", ["int32", "string"])
def test_rows_with_too_few_candidates_end_in_minus_infinity(index_class, dtype):
    """The last row lacks all, the others keep some: one whose id is -1 or "" too."""
    ids = ids_of(dtype)
    filler = "" if dtype == "string" else -1
    others = [i for i in ids if i != filler]
    exclusions = [others[: count + 56] for count in range(4)] + [ids]
    index = index_class().index(CANDIDATES, tf.constant(ids, dtype))
    expected = best(QUERIES, CANDIDATES, 6, ids, exclusions, filler)
    assert np.isfinite(expected[0]).sum(axis=1).tolist() == [4, 3, 2, 1, 0]
    assert all(filler in row for row in expected[1])
    ragged = tf.ragged.constant(exclusions, dtype)
    # Filled with repeats, or with what is no id.
    repeats = [(row * 2)[:60] for row in exclusions]
    none = "?" if dtype == "string" else 99
    unknown = [row + [none] * (60 - len(row)) for row in exclusions]
    for form in (ragged, tf.constant(repeats, dtype), tf.constant(unknown, dtype)):
        scores, found = index.query_with_exclusions(QUERIES, form, k=6)
        assert as_list(found) == expected[1]
        np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-5)


@both
def test_k_by_default_is_at_most_the_number_of_candidates(index_class):
    index = index_class(k=7).index(CANDIDATES[:3])
    assert as_list(index(QUERIES)[1]) == best(QUERIES, CANDIDATES[:3], 3)[1]
    assert index.query_with_exclusions(QUERIES, [[1]] * 5)[0].shape == (5, 3)
    index.index(CANDIDATES)
    assert as_list(index(QUERIES)[1]) == best(QUERIES, CANDIDATES, 7)[1]


@both
def test_an_exclusion_said_often_widens_no_search(index_class, monkeypatch):
    index = index_class().index(CANDIDATES)
    searcher, widths = index._searcher, []
    search = searcher.search
    monkeypatch.setattr(
        searcher, "search", lambda q, k: widths.append(int(k)) or search(q, k)
    )
    exclusions = [[7] * 30 + [-1] * 5 + [9, 7]] * 5
    tf.config.run_functions_eagerly(True)
    try:
        found = index.query_with_exclusions(QUERIES, exclusions, k=4)[1]
    finally:
        tf.config.run_functions_eagerly(False)
    assert as_list(found) == best(QUERIES, CANDIDATES, 4, exclusions=exclusions)[1]
    assert widths == [6]


@both
def test_exclusions_of_any_width_do_not_retrace(index_class):
    index = index_class().index(CANDIDATES)
    query = tf.function(
        lambda q, e, k: index.query_with_exclusions(q, e, k)[1],
        input_signature=[
            tf.TensorSpec([None, 8]),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([], tf.int32),
        ],
    )
    for width in (0, 3, 40):
        exclusions = np.random.default_rng(width).integers(0, 60, (5, width))
        expected = best(QUERIES, CANDIDATES, 8, exclusions=exclusions)[1]
        found = query(QUERIES, tf.constant(exclusions, tf.int32), tf.constant(8))
        assert as_list(found) == expected
    assert query.experimental_get_tracing_count() == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="one row per query"):
        query(QUERIES, tf.zeros([4, 1], tf.int32), tf.constant(8))


@both
@pytest.mark.parametrize("paired", [False, True])
def test_index_from_dataset(index_class, paired):
    dataset = tf.data.Dataset.from_tensor_slices(CANDIDATES)
    ids = ids_of("string")
    if paired:
        dataset = tf.data.Dataset.zip(tf.data.Dataset.from_tensor_slices(ids), dataset)
    index = index_class(k=3)
    assert index.index_from_dataset(dataset.batch(16)) is index
    expected = best(QUERIES, CANDIDATES, 3, ids if paired else None)[1]
    assert as_list(index(QUERIES)[1]) == expected


@both
def test_traced_functions_see_a_refresh(index_class):
    index = index_class().index(CANDIDATES, ids_of("string"))
    query = tf.function(lambda q: index(q, k=3))
    without = tf.function(lambda q, e: index.query_with_exclusions(q, e, 3)[1])
    queries, exclusions = tf.constant(QUERIES), tf.constant([["new 1"]] * 5)
    query(queries), without(queries, exclusions)
    for count in (90, 7, 1200):
        # Ids change places too.
        candidates = normal(count, count, 8)
        ids = [f"new {i}" for i in range(count)][::-1]
        index.index(candidates, ids)
        expected = best(queries, candidates, 3, ids)
        scores, found = query(queries)
        np.testing.assert_allclose(scores, expected[0], rtol=1e-4, atol=1e-4)
        assert as_list(found) == expected[1] == as_list(index(queries, k=3)[1])
        expected = best(queries, candidates, 3, ids, [["new 1"]] * 5)[1]
        assert as_list(without(queries, exclusions)) == expected
        assert as_list(index.query_with_exclusions(queries, exclusions, 3)[1]) == (
            expected
        )
    assert query.experimental_get_tracing_count() == 1
    assert without.experimental_get_tracing_count() == 1


@both
def test_a_refresh_may_change_the_width(index_class):
    index = index_class(k=2).index(CANDIDATES)
    query = tf.function(lambda q: index(q)[1], reduce_retracing=True)
    query(tf.constant(QUERIES))
    candidates = normal(3, 40, 5)
    index.index(candidates)
    expected = best(QUERIES[:, :5], candidates, 2)[1]
    assert as_list(query(tf.constant(QUERIES[:, :5]))) == expected
    with pytest.raises(ValueError, match=r"width 5 like.*received shape \(5, 8\)"):
        index(QUERIES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="as wide as the indexed"):
        query(tf.constant(QUERIES))


@both
def test_indexing_again_without_ids_forgets_them(index_class):
    index = index_class(k=2).index(CANDIDATES, ids_of("int32"))
    index.query_with_exclusions(QUERIES, [[-1]] * 5)
    index.index(CANDIDATES[::-1])
    expected = best(QUERIES, CANDIDATES[::-1], 2)[1]
    assert as_list(index(QUERIES)[1]) == expected
    index.index(CANDIDATES, ids_of("string"))
    assert index.query_with_exclusions(QUERIES, [[""]] * 5)[1].dtype == tf.string


@both
def test_a_function_traced_for_other_ids_fails_loudly(index_class):
    index = index_class(k=2).index(CANDIDATES)
    query = tf.function(lambda q: index(q)[1])
    query(tf.constant(QUERIES))
    index.index(CANDIDATES, ids_of("string"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="number of candidates"):
        query(tf.constant(QUERIES))


@pytest.mark.parametrize("index_class", some_of([BruteForce, ScaNN], [ScaNN]))
def test_refreshing_adds_no_weights_and_no_variables(index_class):
    def count():
        gc.collect()
        # Few types, and many objects of a whole session's tests.
        numbers = collections.Counter(map(type, gc.get_objects()))
        return sum(n for kind, n in numbers.items() if issubclass(kind, tf.Variable))

    index = index_class(k=2).index(CANDIDATES)
    before = count()
    for seed in range(5):
        index.index(normal(seed, 50 + seed, 8))
    assert count() == before
    assert index.weights == []


@both
def test_a_query_that_is_not_finite_finds_nothing(index_class):
    queries = QUERIES.copy()
    queries[0, 3], queries[1, 0], queries[2] = np.nan, np.inf, 3e19
    index = index_class(k=3).index(CANDIDATES)
    for scores, ids in (
        index(queries),
        index.query_with_exclusions(queries, [[4]] * 5),
    ):
        assert (scores.numpy()[:3] == -np.inf).all()
        assert (ids.numpy()[:3] == -1).all()
        assert (ids.numpy()[3:] >= 0).all()
    assert as_list(index(queries)[1])[3:] == best(QUERIES, CANDIDATES, 3)[1][3:]


@both
def test_an_empty_batch(index_class):
    index = index_class(k=3).index(CANDIDATES)
    assert index(tf.zeros([0, 8]))[1].shape == (0, 3)
    empty = tf.zeros([0, 8]), tf.zeros([0, 4], tf.int32)
    assert index.query_with_exclusions(*empty)[1].shape == (0, 3)


@both
def test_query_model_with_string_features(index_class):
    table = normal(5, 4, 8)
    users = ["ann", "bob", "eve"]
    lookup = keras.layers.StringLookup(vocabulary=users)
    embed = keras.layers.Embedding(
        4, 8, embeddings_initializer=keras.initializers.Constant(table)
    )

    def tower(features):
        rows = embed(lookup(features["user"]))
        # Needs autograph.
        if tf.reduce_any(features["loud"]):
            rows = rows * 2.0
        return rows

    index = index_class(tower, k=3).index(CANDIDATES)
    expected = best(table[[2, 0, 1]], CANDIDATES, 3)
    features = {
        "user": tf.constant(["bob", "stranger", "ann"]),
        "loud": tf.constant([False, True, False]),
    }
    scores, ids = index(features)
    assert as_list(ids) == expected[1]
    np.testing.assert_allclose(scores, 2 * expected[0], rtol=1e-5, atol=1e-5)
    exclusions = [[row[0]] for row in expected[1]]
    without = index.query_with_exclusions(features, exclusions, k=2)[1]
    assert as_list(without) == [row[1:] for row in expected[1]]


@both
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_embeddings_of_other_precision_are_searched_in_float32(index_class, dtype):
    queries, candidates = (tf.cast(x, dtype) for x in (QUERIES, CANDIDATES))
    scores, ids = index_class(k=5).index(candidates)(queries)
    expected = best(
        tf.cast(queries, "float32"), tf.cast(candidates, "float32").numpy(), 5
    )
    assert as_list(ids) == expected[1]
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_policy(index_class, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        tower = keras.Sequential([keras.layers.Dense(8)])
        index = index_class(tower, k=5).index(CANDIDATES)
        plain = index_class(k=5).index(CANDIDATES)
        features = tf.constant(normal(4, 5, 6))
        embeddings = tower(features)
        scores, ids = index(features)
        plain_scores = plain(tf.constant(QUERIES))[0]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert embeddings.dtype == policy.removeprefix("mixed_")
    assert scores.dtype == tf.float32
    expected = best(tf.cast(embeddings, tf.float32).numpy(), CANDIDATES, 5)
    assert as_list(ids) == expected[1]
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-5)
    # Float32 queries were not rounded on the way in.
    np.testing.assert_allclose(
        plain_scores, best(QUERIES, CANDIDATES, 5)[0], rtol=1e-5, atol=1e-5
    )


@both
@pytest.mark.parametrize(
    ("candidates", "ids", "message"),
    [
        (CANDIDATES[0], None, r"non-empty matrix.*received shape \(8,\)"),
        (CANDIDATES[:0], None, r"non-empty matrix.*received shape \(0, 8\)"),
        (CANDIDATES[:, :0], None, r"non-empty matrix.*received shape \(60, 0\)"),
        (CANDIDATES.astype(int), None, "floating-point embeddings, received int64"),
        (CANDIDATES.astype(float) * 1e39, None, "must be finite, but [0-9]+ rows hold"),
        (CANDIDATES, list(range(59)), "has 60 rows, but `identifiers` has 59"),
        (CANDIDATES, [3] * 60, "must be distinct, but 3 occurs 60 times"),
    ],
)
def test_bad_candidates_leave_the_index_as_it_was(
    index_class, candidates, ids, message
):
    index = index_class(k=3)
    with pytest.raises(ValueError, match=message):
        index.index(candidates, ids)
    with pytest.raises(ValueError, match="holds no candidates yet. Call `index`"):
        index(QUERIES)
    index.index(CANDIDATES, ids_of("int32"))
    before = as_list(index(QUERIES)[1])
    with pytest.raises(ValueError, match=message):
        index.index(candidates, ids)
    assert as_list(index(QUERIES)[1]) == before


@both
def test_nan_candidates_are_named(index_class):
    candidates = CANDIDATES.copy()
    candidates[[17, 40], 2] = np.nan
    with pytest.raises(ValueError, match="2 rows hold NaN or infinity, .* row 17"):
        index_class().index(candidates)


@both
@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (QUERIES, 61, r"from 1 to the number of candidates \(60\), received 61"),
        (QUERIES, 0, "received 0"),
        (QUERIES, tf.constant(61), "received 61"),
        (QUERIES, 2.5, "`k` must be an integer, received 2.5"),
        (QUERIES, [1, 2], "`k` must be an integer"),
        (QUERIES[0], 3, r"shape \[queries, 8\], received shape \(8,\)"),
        (QUERIES[:, :7], 3, r"width 8 like.*received shape \(5, 7\)"),
        (QUERIES.astype(np.int32), 3, "floating-point numbers, received int32"),
    ],
)
def test_bad_queries(index_class, queries, k, message):
    index = index_class().index(CANDIDATES)
    with pytest.raises(ValueError, match=message):
        index(queries, k=k)
    if tf.is_tensor(k):
        # Within a function its value is not known before it runs.
        expected, message = tf.errors.InvalidArgumentError, "number of candidates"
    else:
        expected = ValueError
    with pytest.raises(expected, match=message):
        index.query_with_exclusions(queries, [[1]] * 5, k)


@both
def test_bad_exclusions_of_a_query(index_class):
    index = index_class(k=3).index(CANDIDATES, ids_of("string"))
    with pytest.raises(ValueError, match="must be string like the ids.*received int32"):
        index.query_with_exclusions(QUERIES, [[1]] * 5)
    with pytest.raises(ValueError, match=r"one row per query \(5\).*\(4, 1\)"):
        index.query_with_exclusions(QUERIES, [["a"]] * 4)


@both
def test_a_symbolic_k_must_be_a_scalar_integer(index_class):
    index = index_class().index(CANDIDATES)
    query = tf.function(lambda k: index(QUERIES, k=k), autograph=False)
    for k in (tf.constant(2.0), tf.constant([2])):
        with pytest.raises(ValueError, match="`k` must be a scalar integer"):
            query(k)


@both
def test_bad_datasets(index_class):
    index = index_class()
    rows = tf.data.Dataset.from_tensor_slices(CANDIDATES)
    ids = tf.data.Dataset.range(60)
    with pytest.raises(ValueError, match=r"shapes \(20,\) and \(30, 8\)"):
        index.index_from_dataset(tf.data.Dataset.zip(ids.batch(20), rows.batch(30)))
    with pytest.raises(ValueError, match="must yield embeddings or pairs"):
        index.index_from_dataset(tf.data.Dataset.zip(ids, ids, rows).batch(30))
    with pytest.raises(ValueError, match="must yield embeddings or pairs"):
        index.index_from_dataset(rows.map(lambda row: {"x": row}).batch(30))
    with pytest.raises(ValueError, match="dataset of candidates is empty"):
        index.index_from_dataset(rows.take(0).batch(30))


@both
def test_index_within_a_function_is_refused(index_class):
    index = index_class()
    build = tf.function(lambda x: index.index(x) and 0, autograph=False)
    with pytest.raises(ValueError, match="must be called eagerly"):
        build(tf.constant(CANDIDATES))


@both
@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_bad_default_k(index_class, k):
    with pytest.raises(ValueError, match="`k` must be a positive int"):
        index_class(k=k)


@both
def test_config_rebuilds_the_index(index_class):
    tower = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)])
    index = index_class(tower, k=4, name="nearest")
    config = index.get_config()
    rebuilt = index_class.from_config(config)
    assert rebuilt.name == "nearest"
    assert {**rebuilt.get_config(), "query_model": 0} == {**config, "query_model": 0}
    rebuilt.query_model.set_weights(tower.get_weights())
    features = tf.constant(normal(4, 5, 6))
    answers = [i.index(CANDIDATES)(features)[1].numpy() for i in (index, rebuilt)]
    np.testing.assert_array_equal(*answers)
    assert index_class.from_config(index_class().get_config()).query_model is None


@both
def test_checkpoints_leave_the_candidates_alone(index_class, tmp_path):
    tower = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)])
    index = index_class(tower, k=3).index(CANDIDATES)
    path = tf.train.Checkpoint(index=index).write(str(tmp_path / "checkpoint"))
    features = tf.constant(normal(4, 5, 6))
    embeddings = tower(features).numpy()
    tower.set_weights([w + 1 for w in tower.get_weights()])
    fresh = normal(6, 45, 8)
    index.index(fresh)
    tf.train.Checkpoint(index=index).read(path)
    assert as_list(index(features)[1]) == best(embeddings, fresh, 3)[1]


@both
@pytest.mark.skipif(IS_KERAS_3, reason="Keras 3 models have no SavedModel format")
def test_keras_2_saves_and_loads_the_layer(index_class, tmp_path):
    index = index_class(k=3).index(CANDIDATES, ids_of("string"))
    exclusions = tf.constant([["item 11", "item 40"]] * 5)
    expected = as_list(index.query_with_exclusions(QUERIES, exclusions)[1])
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    index.save(tmp_path / "layer", options=options)
    loaded = keras.models.load_model(tmp_path / "layer")
    found = loaded.query_with_exclusions(QUERIES, exclusions)[1]
    assert as_list(found) == expected
