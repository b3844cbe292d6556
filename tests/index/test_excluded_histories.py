"""What users have already, which an export leaves out by itself."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from index_oracles import as_list, best, normal

from tfrs_negatives.data import positives_of
from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval, load_retrieval

NUM, WIDTH = 40, 4
CANDIDATES = normal(1, NUM, WIDTH)
IDS = [f"item {n}" for n in range(NUM)]
# "heavy" has all but one, "other" nothing that is a candidate; "new" is nobody's.
HISTORIES = {
    "ann": ["item 3", "item 5", "item 3", "gone"],
    "heavy": IDS[:-1],
    "other": ["gone"],
    "": ["item 0"],
}
USERS = ["ann", "new", "heavy", "other", "", "ann"]
VECTORS = normal(2, len(USERS), WIDTH)
SIGNATURE = {
    "user": tf.TensorSpec([None], tf.string),
    "vector": tf.TensorSpec([None, WIDTH], tf.float32),
}
FEATURES = {"user": np.array(USERS, object), "vector": VECTORS}


def table(histories=HISTORIES):
    pairs = [(user, item) for user, items in histories.items() for item in items]
    pairs = [pairs[n] for n in np.random.default_rng(0).permutation(len(pairs))]
    users, items = np.array(pairs).T
    return positives_of({"user": users, "item": items})


def vector(features):
    return features["vector"]


def export(path, index=None, **options):
    index = index or BruteForce().index(CANDIDATES, IDS)
    given = {"histories": table(), "history_feature": "user"}
    given |= {"query_signature": SIGNATURE, **options}
    return export_retrieval(path, vector, index, **given)


@pytest.fixture(scope="module", params=[BruteForce, ScaNN])
def model(request, tmp_path_factory):
    index = request.param().index(CANDIDATES, IDS)
    return load_retrieval(export(tmp_path_factory.mktemp("histories") / "m", index))


def check(found, k, exclusions=None, **dial):
    scores, ids = best(VECTORS, CANDIDATES, k, IDS, exclusions, "", **dial)
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


ALL = [HISTORIES.get(user, []) for user in USERS]


@pytest.mark.parametrize("k", [1, 6, NUM])
def test_left_out_by_default(model, k):
    serve = model.signatures["serving_default"]
    check(serve(**FEATURES, k=k), k, ALL)
    for given in (True, [True] * len(USERS)):
        check(serve(**FEATURES, k=k, exclude_history=given), k, ALL)
    assert model.description["options"] == {"exclude_history": True}
    assert model.description["users_with_history"] == 3


def test_all_items_on_request(model):
    serve = model.signatures["serving_default"]
    check(serve(**FEATURES, k=6, exclude_history=False), 6)
    wanted = [False, True, True, True, False, True]
    some = [items if want else [] for items, want in zip(ALL, wanted, strict=True)]
    check(serve(**FEATURES, k=6, exclude_history=wanted), 6, some)


def test_exclusions_come_on_top(model):
    exclusions = [[f"item {n}", "item 39", "unknown"] for n in range(len(USERS))]
    signature = model.signatures["with_exclusions"]
    both = [[*some, *items] for some, items in zip(exclusions, ALL, strict=True)]
    check(signature(**FEATURES, k=NUM, exclusions=exclusions), NUM, both)
    found = signature(**FEATURES, k=9, exclusions=exclusions, exclude_history=False)
    check(found, 9, exclusions)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one row per query"):
        signature(**FEATURES, k=9, exclusions=exclusions[:2])


def test_an_empty_batch(model):
    features = {name: value[:0] for name, value in FEATURES.items()}
    assert model.signatures["serving_default"](**features, k=3)["ids"].shape == [0, 3]


@pytest.mark.parametrize("given", ["yes", 1, 0.5, [[True]], None])
def test_another_kind(model, given):
    with pytest.raises(ValueError, match="`exclude_history` must be one bool"):
        model.signatures["serving_default"](**FEATURES, exclude_history=given)


def test_another_number_of_rows(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value per query, or"):
        model.signatures["serving_default"](**FEATURES, exclude_history=[True] * 2)


@pytest.mark.parametrize(
    ("users", "items"), grid(["int32", "int64"], ["int32", "int64"])
)
def test_ids_are_numbers(tmp_path, users, items):
    """The table of int64, as tables are; every integer is an id, -1 and 0 too."""
    ids = np.arange(NUM, dtype=items) - 1
    index = BruteForce().index(CANDIDATES, ids)
    rows = {"user": [-1, 0, 7, -1], "item": [-1, 3, 2**40, 5]}
    path = export(
        tmp_path / "m",
        index,
        histories=positives_of(rows),
        query_signature={**SIGNATURE, "user": tf.TensorSpec([None], users)},
    )
    serve = load_retrieval(path).signatures["serving_default"]
    found = serve(user=np.array([-1, 0, 7, 8], users), vector=VECTORS[:4], k=NUM)
    excluded = [[-1, 5], [3], [], []]
    scores, expected = best(VECTORS[:4], CANDIDATES, NUM, ids.tolist(), excluded)
    assert as_list(found["ids"]) == expected
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


def test_with_popularity(tmp_path):
    log_q = np.log(np.arange(1, NUM + 1) / 820)
    model = load_retrieval(export(tmp_path / "m", popularity=log_q))
    discounts = [0.0, 0.5, 1.0, 2.0, -1.0, 0.1]
    found = model.signatures["serving_default"](
        **FEATURES, k=7, popularity_discount=discounts
    )
    check(found, 7, ALL, log_q=log_q, discounts=discounts)


def test_the_feature_may_be_the_only_one(tmp_path):
    vectors = tf.Variable(VECTORS[:1])
    path = export_retrieval(
        tmp_path / "m",
        lambda user: tf.repeat(vectors, tf.size(user), axis=0),
        BruteForce().index(CANDIDATES, IDS),
        query_signature=tf.TensorSpec([None], tf.string),
        histories=table(),
    )
    serve = load_retrieval(path).signatures["serving_default"]
    found = serve(query=tf.constant(["heavy"]), k=3)
    assert as_list(found["ids"]) == [["item 39", "", ""]]


def test_one_user_of_many_items(tmp_path):
    """A batch is as wide as its longest history, and others keep their answers."""
    candidates = normal(5, 3_000, WIDTH)
    index = BruteForce().index(candidates)
    rows = {"user": [1] * 2_995 + [2], "item": [*range(2_995), 2_999]}
    signature = {**SIGNATURE, "user": tf.TensorSpec([None], tf.int64)}
    path = export(
        tmp_path / "m", index, histories=positives_of(rows), query_signature=signature
    )
    serve = load_retrieval(path).signatures["serving_default"]
    found = serve(user=np.array([1, 2, 3]), vector=VECTORS[:3], k=5)
    excluded = [range(2_995), [2_999], []]
    assert as_list(found["ids"]) == best(VECTORS[:3], candidates, 5, None, excluded)[1]


BAD = [
    (
        {"histories": HISTORIES},
        "must be what `data.positives_of` returns, received dict",
    ),
    ({"history_feature": None}, "must name .* one of user, vector, received None"),
    ({"history_feature": "item"}, "one of user, vector, received 'item'"),
    (
        {"history_feature": "vector"},
        r"strings, .* 'vector' is float32 of shape \(None, 4",
    ),
    ({"histories": None}, "`history_feature` is 'user' without `histories`"),
    (
        {"histories": positives_of({"user": [1], "item": ["item 1"]})},
        "users that are integers, one a row, but the feature 'user' is string",
    ),
    (
        {"histories": positives_of({"user": ["ann"], "item": [1]})},
        r"`histories` \(int64\) can never equal the ids of the index \(string\)",
    ),
    (
        {"histories": positives_of({"user": ["ann"], "item": ["1"]})},
        "must hold items of the index, received none .* such as .*1",
    ),
    (
        {
            "query_signature": {
                **SIGNATURE,
                "exclude_history": tf.TensorSpec([None], tf.string),
            }
        },
        "has a column 'exclude_history'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_arguments_write_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "m", **changes)
    assert not list(tmp_path.iterdir())


def test_the_input_is_there_with_histories_only(tmp_path):
    path = export(tmp_path / "m", histories=None, history_feature=None)
    serve = load_retrieval(path).signatures["serving_default"]
    assert set(serve.structured_input_signature[1]) == {"user", "vector", "k"}
    with pytest.raises(ValueError, match="was given `histories=`"):
        serve(**FEATURES, exclude_history=False)
