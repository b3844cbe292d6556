"""Popularity that each query weighs, against rescoring in float64."""

import re

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from index_oracles import as_list, best, clustered, normal, recall

from tfrs_negatives._keras import keras
from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval, load_retrieval

NUM, WIDTH = 60, 6
CANDIDATES, QUERIES = normal(1, NUM, WIDTH), normal(2, 5, WIDTH)
COUNTS = np.random.default_rng(3).zipf(1.5, NUM) - 1
LOG_Q = np.log(np.maximum(COUNTS, 1) / COUNTS.sum())
IDS = [f"item {n}" for n in range(NUM)]


def export(path, index, **options):
    width = index.searcher.width
    signature = tf.TensorSpec([None, width], name="x")
    options = {"popularity": LOG_Q, **options}
    return export_retrieval(
        path, tf.identity, index, query_signature=signature, **options
    )


@pytest.fixture(scope="module", params=[BruteForce, ScaNN])
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("dial") / "m"
    return load_retrieval(export(path, request.param().index(CANDIDATES, IDS)))


def check(found, k, discounts, exclusions=None):
    scores, ids = best(
        QUERIES, CANDIDATES, k, IDS, exclusions, "", LOG_Q, np.float64(discounts)
    )
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [1, 7, NUM])
@pytest.mark.parametrize("discount", [0, 0.3, 1.0, -0.5, 20.0])
def test_one_discount_for_all_rows(model, k, discount):
    """Few candidates: ScaNN is exact, too."""
    serve = model.signatures["serving_default"]
    discounts = [discount] * len(QUERIES)
    for given in (discount, [discount], discounts, np.float64(discount)):
        check(serve(x=QUERIES, k=k, popularity_discount=given), k, discounts)


def test_each_row_has_its_own(model):
    discounts = [0.0, 1.0, 0.25, -1.0, 3.0]
    found = model.signatures["serving_default"](
        x=QUERIES, k=9, popularity_discount=np.float32(discounts)
    )
    check(found, 9, discounts)


def test_without_discount_it_is_0(model):
    check(model.signatures["serving_default"](x=QUERIES), 10, [0.0] * 5)
    with_exclusions = model.signatures["with_exclusions"]
    found = with_exclusions(x=QUERIES, exclusions=[["item 3"]] * 5)
    check(found, 10, [0.0] * 5, [["item 3"]] * 5)
    assert model.description["options"] == {"popularity_discount": 0.0}


def test_with_exclusions(model):
    discounts = [0.5, 1.0, 0.0, 2.0, -1.0]
    exclusions = [IDS[5 * n : 5 * n + 9] for n in range(5)]
    found = model.signatures["with_exclusions"](
        x=QUERIES, k=55, popularity_discount=discounts, exclusions=exclusions
    )
    check(found, 55, discounts, exclusions)


def test_embeddings_are_those_of_the_tower(model):
    found = model.signatures["embed_query"](x=QUERIES)["embeddings"]
    np.testing.assert_array_equal(found, QUERIES)
    assert model.description["dimensions"] == WIDTH


def test_a_row_that_is_not_finite_leaves_the_others_alone(model):
    queries = np.where(np.arange(5)[:, None] == 2, np.nan, QUERIES)
    found = model.signatures["serving_default"](
        x=np.float32(queries), k=4, popularity_discount=0.7
    )
    assert (found["scores"].numpy()[2] == -np.inf).all()
    rest = [0, 1, 3, 4]
    scores, ids = best(
        QUERIES[rest], CANDIDATES, 4, IDS, None, "", LOG_Q, np.full(4, 0.7)
    )
    assert [as_list(found["ids"])[row] for row in rest] == ids
    np.testing.assert_allclose(found["scores"].numpy()[rest], scores, rtol=1e-5)


def test_a_keras_tower_loaded_by_tensorflow_alone(tmp_path):
    """Which asks for all inputs."""
    users = ["ann", "bob", "eve"]
    tower = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            keras.layers.StringLookup(vocabulary=users),
            keras.layers.Embedding(4, WIDTH, embeddings_initializer="normal"),
        ]
    )
    path = export_retrieval(
        tmp_path / "m",
        tower,
        BruteForce().index(CANDIDATES, IDS),
        query_signature=tf.TensorSpec([None], tf.string, name="user"),
        payload={"place": np.arange(NUM)},
        popularity=LOG_Q,
    )
    found = tf.saved_model.load(path).signatures["serving_default"](
        user=tf.constant(users),
        k=tf.constant(8),
        popularity_discount=tf.constant([0.4]),
    )
    embeddings = tower(tf.constant(users)).numpy()
    scores, ids = best(embeddings, CANDIDATES, 8, IDS, None, "", LOG_Q, np.full(3, 0.4))
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)
    places = [[IDS.index(i) for i in row] for row in ids]
    np.testing.assert_array_equal(found["place"], places)


def test_an_empty_batch(model):
    found = model.signatures["serving_default"](
        x=np.zeros([0, WIDTH], np.float32), k=4, popularity_discount=0.7
    )
    assert found["scores"].shape == [0, 4]


@pytest.mark.parametrize(
    "discount", [np.nan, np.inf, -np.inf, 2e6, [0, 0, np.nan, 0, 0]]
)
def test_discounts_that_are_no_moderate_numbers(model, discount):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="numbers from -1,000,000 to 1,000,000"
    ):
        model.signatures["serving_default"](x=QUERIES, popularity_discount=discount)


@pytest.mark.parametrize("discount", ["half", [[0.5]] * 5, True, None])
def test_discounts_of_another_kind(model, discount):
    with pytest.raises(ValueError, match="`popularity_discount` must be one float32"):
        model.signatures["serving_default"](x=QUERIES, popularity_discount=discount)


def test_discounts_for_another_number_of_rows(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value per query, or"):
        model.signatures["serving_default"](x=QUERIES, popularity_discount=[0.5] * 4)


def test_candidates_far_from_1_keep_their_scores(tmp_path):
    """The scale of the further dimension follows theirs, and rounds nothing."""
    for size in (1e-12, 1e12):
        index = BruteForce().index(CANDIDATES * np.float32(size), IDS)
        model = load_retrieval(export(tmp_path / f"{size}", index))
        queries = QUERIES / np.float32(size)
        found = model.signatures["serving_default"](
            x=queries, k=NUM, popularity_discount=0.5
        )
        check(found, NUM, [0.5] * 5)


@pytest.mark.parametrize("popularity", ["equal", "candidates", "one"])
def test_nothing_varies(tmp_path, popularity):
    candidates, log_q = CANDIDATES, np.full(NUM, -np.log(NUM))
    if popularity == "candidates":
        candidates, log_q = np.ones_like(CANDIDATES), LOG_Q
    if popularity == "one":
        candidates, log_q = CANDIDATES[:1], np.zeros(1)
    index = BruteForce().index(candidates)
    model = load_retrieval(export(tmp_path / "m", index, popularity=log_q))
    k = len(candidates)
    found = model.signatures["serving_default"](x=QUERIES, k=k, popularity_discount=2.0)
    scores, _ = best(
        QUERIES, candidates, k, log_q=log_q, discounts=np.full(len(QUERIES), 2.0)
    )
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


def test_counts_are_taken_as_log_shares_and_0_as_1(tmp_path):
    index = BruteForce().index(CANDIDATES, IDS)
    model = load_retrieval(export(tmp_path / "m", index, popularity=COUNTS))
    assert (COUNTS == 0).any()
    found = model.signatures["serving_default"](x=QUERIES, popularity_discount=1.5)
    check(found, 10, [1.5] * 5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_log_q_of_any_precision(tmp_path, dtype):
    log_q = tf.cast(LOG_Q, dtype)
    index = BruteForce().index(CANDIDATES, IDS)
    model = load_retrieval(export(tmp_path / "m", index, popularity=log_q))
    found = model.signatures["serving_default"](
        x=QUERIES, k=NUM, popularity_discount=1.0
    )
    scores, ids = best(
        QUERIES, CANDIDATES, NUM, IDS, None, "", tf.cast(log_q, "float64"), np.ones(5)
    )
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


def changed(value):
    return np.where(np.arange(NUM) == 4, value, LOG_Q)


BAD = [
    (LOG_Q[1:], r"one value per indexed candidate \(60\), received shape \(59,\)"),
    (LOG_Q[:, None], r"received shape \(60, 1\)"),
    (-3.0, r"received shape \(\)"),
    (changed(np.nan), "1 values are NaN or infinite, the first of them nan in row 4"),
    (changed(-np.inf), "the first of them -inf in row 4. Where .* pass the counts"),
    (changed(np.inf), "the first of them inf in row 4"),
    (changed(0.1), "log q, at most 0, received 0.1 in row 4. Pass counts as integers"),
    (COUNTS.astype(np.float32), "log q, at most 0, received"),
    (np.zeros(NUM, np.int64), "counts, at least 0 and not all 0, received 0 to 0"),
    (COUNTS - 1, "counts, at least 0 and not all 0, received -1 to"),
    (np.array(["many"] * NUM), "log q, floating-point numbers, or counts, integers"),
    (COUNTS > 0, "or counts, integers, received bool"),
]


@pytest.mark.parametrize(("popularity", "message"), BAD)
def test_bad_popularity_writes_nothing(tmp_path, popularity, message):
    index = BruteForce().index(CANDIDATES, IDS)
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "m", index, popularity=popularity)
    assert not list(tmp_path.iterdir())


def test_the_input_is_there_with_popularity_only(tmp_path):
    index = BruteForce().index(CANDIDATES)
    plain = load_retrieval(export(tmp_path / "plain", index, popularity=None))
    serve = plain.signatures["serving_default"]
    assert set(serve.structured_input_signature[1]) == {"x", "k"}
    message = "is there where the export was given `popularity=`"
    with pytest.raises(ValueError, match=re.escape(message)):
        serve(x=QUERIES, popularity_discount=0.5)
    # A feature may have this name then, and only then.
    name = "popularity_discount"
    arguments = {"query_signature": tf.TensorSpec([None, WIDTH], name=name)}
    path = export_retrieval(tmp_path / "named", tf.identity, index, **arguments)
    found = load_retrieval(path).signatures["serving_default"](**{name: QUERIES})
    np.testing.assert_allclose(found["scores"], best(QUERIES, CANDIDATES, 10)[0], 1e-5)
    with pytest.raises(ValueError, match="has a column 'popularity_discount'"):
        export_retrieval(
            tmp_path / "both", tf.identity, index, popularity=LOG_Q, **arguments
        )


def test_a_tower_of_another_width(tmp_path):
    index = BruteForce().index(CANDIDATES)
    signature = tf.TensorSpec([None, WIDTH + 1])
    with pytest.raises(ValueError, match="must have width 6 like the indexed candidat"):
        export_retrieval(
            tmp_path / "m",
            tf.identity,
            index,
            query_signature=signature,
            popularity=LOG_Q,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.scann
def test_the_index_stays_as_it_was(tmp_path):
    index = ScaNN().index(CANDIDATES, IDS)
    before = index(QUERIES)
    path = export(tmp_path / "m", index)
    after = index(QUERIES)
    assert as_list(after[1]) == as_list(before[1])
    # Nor does the export follow it.
    index.index(CANDIDATES[::-1], IDS)
    found = load_retrieval(path).signatures["serving_default"](x=QUERIES)
    check(found, 10, [0.0] * 5)


@pytest.mark.scann
def test_rounded_candidates(tmp_path):
    candidates = clustered(0, 2_000)
    index = ScaNN(storage="int8").index(candidates)
    with pytest.raises(ValueError, match='rounded candidates only .*storage="float32"'):
        export(tmp_path / "m", index, popularity=np.full(2_000, -7.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.scann
def test_a_recall_target_without_queries(tmp_path):
    index = ScaNN(recall_target=0.9).index(clustered(0, 2_000))
    with pytest.raises(
        ValueError, match="needs query embed.* Pass `sample_queries` to"
    ):
        export(tmp_path / "m", index, popularity=np.full(2_000, -7.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.scann
@pytest.mark.parametrize(("target",), grid([None, 0.95]))
def test_scann_finds_most_at_any_discount(tmp_path, target):
    """Recall against exact search; a target is for the mean over 0, .5 and 1.

    The mean of 900 queries has a standard error of .003.
    """
    num = 5_000
    candidates, queries = clustered(0, num), clustered(1, 300)
    rng = np.random.default_rng(0)
    counts = rng.permutation((1e5 / np.arange(1, num + 1)).astype(np.int64))
    log_q = np.log(np.maximum(counts, 1) / counts.sum())
    settings = {"num_leaves_to_search": 25} if target is None else {}
    sample = {} if target is None else {"sample_queries": clustered(2, 1_000)}
    index = ScaNN(recall_target=target, **settings).index(candidates, **sample)
    path = export(tmp_path / "m", index, popularity=counts)
    serve = load_retrieval(path).signatures["serving_default"]
    recalls = []
    for discount in (0.0, 0.5, 1.0):
        found = serve(x=queries, popularity_discount=discount)["ids"].numpy()
        wide = np.concatenate([candidates, -log_q[:, None]], axis=1)
        asked = np.concatenate([queries, np.full([300, 1], discount)], axis=1)
        recalls.append(recall(found, asked, wide))
    assert min(recalls) >= 0.9
    assert np.mean(recalls) >= (target or 0.9) - 0.01
