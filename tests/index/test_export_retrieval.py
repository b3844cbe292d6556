import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from index_oracles import as_list, best, normal

from tfrs_negatives._keras import keras
from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval

USERS = ["ann", "bob", "eve"]
CANDIDATES = normal(1, 40, 4)
IDS = {
    "string": [f"item {n}" for n in range(40)][::-1],
    "int64": (np.arange(40) * 10**10)[::-1].copy(),
}
TITLES = [f"Title {n} é" for n in range(40)]
YEARS = np.arange(40, dtype=np.int32) + 1980
USER = tf.TensorSpec([None], tf.string, name="user")


def functional_tower():
    """Raw string and number in; dropout and batch norm show if it trains."""
    user = keras.Input((), dtype="string", name="user")
    age = keras.Input((1,), name="age")
    code = keras.layers.StringLookup(vocabulary=USERS)(user)
    x = keras.layers.Embedding(4, 6)(code)
    x = keras.layers.Concatenate()([x, age])
    x = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization()(x))
    model = keras.Model({"user": user, "age": age}, keras.layers.Dense(4)(x))
    spec = {
        "user": tf.TensorSpec([None], tf.string),
        "age": tf.TensorSpec([None, 1], tf.float32),
    }
    features = {
        "user": tf.constant(["bob", "stranger", "ann"]),
        "age": tf.constant([[1.0], [2.0], [-3.0]]),
    }
    return model, spec, features


def subclassed_tower():
    """Raw integer in, a layer that was never called before the export."""

    class Tower(keras.Model):
        def __init__(self):
            super().__init__()
            self.lookup = keras.layers.IntegerLookup(vocabulary=[7, 9, 11])
            self.parts = [keras.layers.Embedding(4, 4), keras.layers.Dense(4)]

        def call(self, user):
            x = self.lookup(user)
            for part in self.parts:
                x = part(x)
            return x

    features = {"user_id": tf.constant([9, 5, 7], tf.int64)}
    return Tower(), tf.TensorSpec([None], tf.int64, name="user_id"), features


def module_tower():
    class Tower(tf.Module):
        def __init__(self):
            super().__init__()
            keys = tf.lookup.KeyValueTensorInitializer(USERS, [0, 1, 2])
            self.inner = tf.Module()
            self.inner.table = tf.lookup.StaticHashTable(keys, 3)
            self.vectors = tf.Variable(normal(2, 4, 4))

        def __call__(self, user):
            rows = tf.gather(self.vectors, self.inner.table.lookup(user))
            # Needs autograph.
            if tf.size(user) > 100:
                rows = rows * 0.0
            return rows

    return Tower(), tf.TensorSpec([None], tf.string), {"query": tf.constant(USERS)}


def function_tower():
    tower = simple_tower()
    spec = {"name": tf.TensorSpec([None], tf.string)}
    return lambda f: tower(f["name"]), spec, {"name": tf.constant(USERS)}


def method_tower():
    class TwoTower:
        def __init__(self):
            self.dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])

        def embed_query(self, x):
            return self.dense(x)

    features = {"x": tf.constant(normal(3, 3, 3))}
    return TwoTower().embed_query, tf.TensorSpec([None, 3], name="x"), features


TOWERS = [functional_tower, subclassed_tower, module_tower]
TOWERS += [function_tower, method_tower]


def simple_tower():
    return keras.Sequential(
        [
            keras.Input((), dtype="string"),
            keras.layers.StringLookup(vocabulary=USERS),
            keras.layers.Embedding(4, 4),
        ]
    )


def embeddings_of(tower, spec, features):
    single = isinstance(spec, tf.TensorSpec)
    return tower(next(iter(features.values())) if single else features).numpy()


EVERY = [(tower, index) for tower in TOWERS for index in (BruteForce, ScaNN)]
# All but the method, which is one more callable beside the function.
FAST = list(zip(TOWERS[:4], 2 * [BruteForce, ScaNN], strict=True))


@pytest.mark.parametrize("make_tower, index_class", some_of(EVERY, FAST))
def test_signatures(tmp_path, make_tower, index_class):
    tower, spec, features = make_tower()
    index = index_class().index(CANDIDATES, IDS["string"])
    payload = {"title": TITLES, "year": YEARS, "vector": CANDIDATES}
    path = tmp_path / "model"
    export_retrieval(path, tower, index, query_signature=spec, payload=payload)
    embeddings = embeddings_of(tower, spec, features)
    signatures = tf.saved_model.load(path).signatures

    found = signatures["embed_query"](**features)
    np.testing.assert_allclose(found["embeddings"], embeddings, rtol=1e-5, atol=1e-6)

    exclusions = [["item 1", ""], ["", ""], ["item 7", "unknown"]]
    for k in (1, 5, 40):
        scores, ids = best(embeddings, CANDIDATES, k, IDS["string"])
        found = signatures["serving_default"](**features, k=tf.constant(k))
        assert sorted(found) == ["ids", "scores", "title", "vector", "year"]
        check(found, scores, ids)
        scores, ids = best(
            embeddings, CANDIDATES, k, IDS["string"], exclusions, filler=""
        )
        found = signatures["with_exclusions"](
            **features, k=tf.constant(k), exclusions=tf.constant(exclusions)
        )
        check(found, scores, ids)


def check(found, scores, ids):
    """Compares an answer with the expected scores, ids and their payload."""
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)
    rows = [[IDS["string"].index(i) if i else None for i in row] for row in ids]
    titles = [["" if r is None else TITLES[r] for r in row] for row in rows]
    years = [[0 if r is None else YEARS[r] for r in row] for row in rows]
    nothing = np.zeros(4)
    vectors = [[nothing if r is None else CANDIDATES[r] for r in row] for row in rows]
    assert as_list(found["title"]) == titles
    assert as_list(found["year"]) == years
    np.testing.assert_array_equal(found["vector"], vectors)


# Without the ops of ScaNN, and then with them.
FRESH_PROCESS = """
import json, sys
import tensorflow as tf
if {scann}:
    from scann import scann_ops
keras = {{name for name in sys.modules if "keras" in name}}
users = tf.constant(["bob", "stranger", "ann"])
for path in {paths!r}:
    signatures = tf.saved_model.load(path).signatures
    first = signatures["serving_default"](user=users, k=tf.constant(2))
    rest = signatures["with_exclusions"](
        user=users, k=tf.constant(3), exclusions=first["ids"])
    found = [*first["ids"].numpy().tolist(), *rest["ids"].numpy().tolist(),
             rest["title"].numpy().tolist(), rest["scores"].numpy().tolist()]
    print(json.dumps(found, default=bytes.decode))
assert not keras.symmetric_difference(n for n in sys.modules if "keras" in n)
names = {{name.split(".")[0] for name in sys.modules}}
assert not names & {{"tfrs_negatives", "tensorflow_recommenders"}}, names
assert {scann} or "scann" not in names
"""


EXPORTED = [(BruteForce, "string"), (ScaNN, "int64")]
REST = [(BruteForce, "int64"), (ScaNN, "string")]


@pytest.mark.scann
@pytest.mark.parametrize(
    "exported",
    [
        pytest.param(EXPORTED, id="one dtype each"),
        pytest.param(
            REST,
            id="the other",
            marks=pytest.mark.slow(reason="the other dtype of each index's ids"),
        ),
    ],
)
def test_a_process_with_only_tensorflow_and_scann_answers(tmp_path, exported):
    tower = simple_tower()
    embeddings = tower(tf.constant(["bob", "stranger", "ann"])).numpy()
    code = ""
    for index_class, dtype in exported:
        path = str(tmp_path / index_class.__name__)
        index = index_class().index(CANDIDATES, IDS[dtype])
        export_retrieval(
            path, tower, index, query_signature=USER, payload={"title": TITLES}
        )
        code += FRESH_PROCESS.format(paths=[path], scann=index_class is ScaNN)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    # -I: nothing of the checkout is on the path.
    result = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers = result.stdout.splitlines()
    for line, (_, dtype) in zip(answers, exported, strict=True):
        ids = list(IDS[dtype])
        scores, expected = best(embeddings, CANDIDATES, 5, ids)
        titles = [[TITLES[ids.index(i)] for i in row[2:]] for row in expected]
        *found, found_titles, found_scores = json.loads(line)
        assert found == [row[:2] for row in expected] + [row[2:] for row in expected]
        assert found_titles == titles
        np.testing.assert_allclose(found_scores, scores[:, 2:], rtol=1e-5, atol=1e-5)


def test_half_precision_towers_are_served_in_float32(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        tower = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        index = BruteForce().index(CANDIDATES)
        spec = tf.TensorSpec([None, 3], name="x")
        export_retrieval(tmp_path / "model", tower, index, query_signature=spec)
        x = tf.constant(normal(4, 5, 3))
        half = tower(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert half.dtype == "float16"
    half = tf.cast(half, tf.float32).numpy()
    signatures = tf.saved_model.load(tmp_path / "model").signatures
    found = signatures["embed_query"](x=x)["embeddings"]
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, half, rtol=1e-3)
    found = signatures["serving_default"](x=x, k=tf.constant(9))
    scores, ids = best(half, CANDIDATES, 9)
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
def test_exports_of_a_refreshed_index_stay_apart(tmp_path, index_class):
    tower = simple_tower()
    users = tf.constant(["ann"])
    index = index_class()
    loaded, expected = [], []
    for seed in range(3):
        candidates = normal(seed + 20, 30 + seed, 4)
        index.index(candidates)
        path = tmp_path / str(seed)
        export_retrieval(path, tower, index, query_signature=USER)
        loaded.append(tf.saved_model.load(path).signatures["serving_default"])
        expected.append(best(tower(users).numpy(), candidates, 30)[1])
    for serve, ids in zip(loaded, expected, strict=True):
        assert as_list(serve(user=users, k=tf.constant(30))["ids"]) == ids
    # The index itself works on.
    assert as_list(index(tower(users), k=30)[1]) == expected[-1]


def test_k_is_checked_in_the_served_graph(tmp_path):
    index = BruteForce().index(CANDIDATES)
    export_retrieval(tmp_path / "m", simple_tower(), index, query_signature=USER)
    serve = tf.saved_model.load(tmp_path / "m").signatures["serving_default"]
    for k in (0, 41):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`k` must be from 1"):
            serve(user=tf.constant(["ann"]), k=tf.constant(k))


@pytest.mark.scann
def test_metadata(tmp_path):
    index = ScaNN().index(CANDIDATES, IDS["int64"])
    payload = {"year": YEARS}
    export_retrieval(
        tmp_path / "m", simple_tower(), index, query_signature=USER, payload=payload
    )
    text = (tmp_path / "m" / "assets.extra" / "tfrs_negatives.json").read_text()
    metadata = json.loads(text)
    assert metadata["tensorflow"] == tf.__version__
    assert metadata["scann"]
    assert metadata["index"] == "ScaNN"
    assert metadata["candidates"] == 40
    assert metadata["dimensions"] == 4
    assert metadata["ids"] == "int64"
    assert metadata["query"] == {"user": {"dtype": "string", "shape": [None]}}
    assert metadata["payload"] == {"year": "int32"}
    assert metadata["settings"]["num_leaves"] == 0


BUILT = BruteForce().index(CANDIDATES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": CANDIDATES}, "must be a BruteForce or ScaNN .* received ndarray"),
        ({"index": BruteForce()}, "BruteForce holds no candidates yet"),
        (
            {"index": BruteForce().index(normal(0, 9, 5))},
            r"width 5 like the indexed candidates, received shape \(None, 4\)",
        ),
        ({"query_signature": {}}, "must be a tf.TensorSpec or a non-empty dict"),
        ({"query_signature": "user"}, "must be a tf.TensorSpec or a non-empty dict"),
        (
            {"query_signature": {"user": tf.TensorSpec([3], tf.string)}},
            "first dimension None for 'user', received TensorSpec",
        ),
        (
            {"query_signature": {"user": tf.TensorSpec([], tf.string)}},
            "first dimension None for 'user'",
        ),
        (
            {"query_signature": {"user": tf.string}},
            "first dimension None for 'user', received tf.string",
        ),
        (
            {"query_signature": {"k": tf.TensorSpec([None], tf.string)}},
            "`query_signature` has a column 'k'.* other than k, exclusions",
        ),
        (
            {"query_signature": tf.TensorSpec([None], tf.string, "exclusions")},
            "`query_signature` has a column 'exclusions'",
        ),
        (
            {"query_signature": {"user id": tf.TensorSpec([None], tf.string)}},
            "`query_signature` has a column 'user id': names must be identifiers",
        ),
        ({"payload": {"ids": TITLES}}, "`payload` has a column 'ids'.* ids, scores"),
        ({"payload": {"scores": TITLES}}, "`payload` has a column 'scores'"),
        ({"payload": {0: TITLES}}, "`payload` has a column 0"),
        (
            {"payload": {"title": TITLES[:39]}},
            r"'title' must have one value per indexed candidate \(40\).*\(39,\)",
        ),
        ({"payload": {"title": "one"}}, r"'title' must have one value per.*\(\)"),
        (
            {"payload": {"title": [None, *TITLES[1:]]}},
            "'title' must be an array of numbers or strings, none missing",
        ),
        (
            {"query_tower": lambda user: {"embeddings": user}},
            "`query_tower` must return one tensor of embeddings, received dict",
        ),
        (
            {"query_signature": {"name": tf.TensorSpec([None], tf.float32)}},
            r"`query_tower` fails on the features \['name'\] of",
        ),
        (
            {"query_tower": lambda features: features["user"]},
            r"`query_tower` fails on the features \['user'\].* needs a tf.TensorSpec",
        ),
        (
            {"query_tower": lambda user: tf.strings.length(user)},
            r"Query embeddings must have shape \[queries, 4\], received shape \(None",
        ),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, changes, message):
    arguments = {"query_tower": None, "index": BUILT, "query_signature": USER}
    arguments["query_tower"] = simple_tower()
    with pytest.raises(ValueError, match=message):
        export_retrieval(tmp_path / "a" / "m", **{**arguments, **changes})
    assert not list(tmp_path.iterdir())


def test_a_table_that_nothing_tracked_holds(tmp_path):
    class Plain:
        def __init__(self):
            keys = tf.lookup.KeyValueTensorInitializer(USERS, [0, 1, 2])
            self.table = tf.lookup.StaticHashTable(keys, 3)
            self.vectors = tf.Variable(normal(2, 4, 4))

        def __call__(self, user):
            return tf.gather(self.vectors, self.table.lookup(user))

    with pytest.raises(ValueError, match="lookup table that no Keras object"):
        export_retrieval(tmp_path / "m", Plain(), BUILT, query_signature=USER)
    assert not list(tmp_path.iterdir())
