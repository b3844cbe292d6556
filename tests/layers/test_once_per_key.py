"""A tower that runs once a key: the plain tower's numbers, at the distinct's cost."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.layers import OncePerKey
from tfrs_negatives.models import Model

KEYS = [5, 3, 5, 5, 9, 3, 7, 5]


@keras.utils.register_keras_serializable(package="test_once_per_key")
class Recorder(keras.layers.Layer):
    """Returns what it takes, and keeps how many rows that were."""

    def __init__(self, **options):
        super().__init__(**options)
        self.num_rows = []

    def call(self, inputs):
        tf.py_function(
            lambda n: self.num_rows.append(int(n)), [tf.shape(inputs)[0]], []
        )
        return tf.identity(inputs)


@keras.utils.register_keras_serializable(package="test_once_per_key")
class TwoFeatures(keras.layers.Layer):
    """A tower over a dict of features, nested, that returns a dict."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = keras.layers.Embedding(20, 3)
        self.dense = keras.layers.Dense(3)

    def call(self, features, training=False):
        user = self.table(features["user"])
        context = self.dense(features["context"]["numbers"])
        return {"sum": user + context, "heads": tf.stack([user, context], axis=1)}


def keys_of(dtype):
    if dtype == "string":
        return tf.constant([f"request {key}" for key in KEYS])
    return tf.constant(KEYS, dtype)


def features_of(keys, width=4, seed=0):
    """[B, width] features that are a function of the key."""
    table = np.random.default_rng(seed).normal(size=(20, width)).astype(np.float32)
    return table[np.asarray(keys)]


def mlp(dropout=0.0, seed=1):
    return keras.Sequential(
        [
            keras.layers.Dense(
                8,
                activation="tanh",
                kernel_initializer=keras.initializers.GlorotUniform(seed),
            ),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(
                3, kernel_initializer=keras.initializers.GlorotUniform(seed + 1)
            ),
        ]
    )


@pytest.mark.parametrize("dtype", ["int32", "int64", "string"])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_and_gradients_are_the_towers(dtype, mode):
    if (dtype, mode) == ("string", "xla"):
        pytest.skip("XLA knows no strings")
    tower = mlp()
    layer = OncePerKey(tower)
    features, keys = tf.constant(features_of(KEYS)), keys_of(dtype)
    weights = np.random.default_rng(2).normal(size=(8, 3)).astype(np.float32)
    tower(features)

    def step(function, features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            outputs = function(features)
            loss = tf.reduce_sum(outputs * weights)
        gradients = tape.gradient(loss, [features, *tower.trainable_variables])
        return outputs, [tf.convert_to_tensor(g) for g in gradients]

    def once(features):
        return step(lambda f: layer(f, keys), features)

    if mode != "eager":
        once = tf.function(once, jit_compile=mode == "xla")
    plain, plain_gradients = step(tower, features)
    found, gradients = once(features)
    np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-6)
    assert found.shape == (8, 3)
    # A key's rows have one source: the gradient of the features is at its first row.
    expected = np.zeros((8, 4), np.float32)
    for row, key in enumerate(KEYS):
        expected[KEYS.index(key)] += plain_gradients[0].numpy()[row]
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients[1:], plain_gradients[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_tower_sees_the_first_row_of_each_key():
    recorder = Recorder()
    layer = OncePerKey(recorder)
    # Rows of one key that differ show which is taken.
    features = tf.range(8.0)[:, tf.newaxis]
    found = layer(features, tf.constant(KEYS))
    assert found[:, 0].numpy().tolist() == [0, 1, 0, 0, 4, 1, 6, 0]
    assert recorder.num_rows == [4]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("jit_compile", [False, True])
def test_distinct_embeddings_and_rows(seed, jit_compile):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 30, 100)
    features = np.arange(100, dtype=np.float32)[:, None]
    layer = OncePerKey(keras.layers.Dense(1, kernel_initializer="ones"))
    layer(features, keys)
    distinct = tf.function(layer.distinct, jit_compile=jit_compile)
    embeddings, rows = distinct(tf.constant(features), tf.constant(keys))
    first = {}
    for place, key in enumerate(keys.tolist()):
        first.setdefault(key, place)
    assert list(first.values()) == embeddings[: len(first), 0].numpy().tolist()
    assert len(embeddings) == (100 if jit_compile else len(first))
    number = {key: place for place, key in enumerate(first)}
    assert rows.dtype == tf.int32
    assert rows.numpy().tolist() == [number[key] for key in keys.tolist()]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rows_without_a_key_are_not_merged(jit_compile):
    features = tf.range(5.0)[:, tf.newaxis]
    layer = OncePerKey(keras.layers.Activation("linear"))
    call = tf.function(layer, jit_compile=jit_compile)
    for keys in ([-1, 4, -1, -7, 4], [4, 4, 4, 4, 4]):
        mask = tf.constant([False, True, False, True, True])
        found = call(features, tf.constant(keys), key_mask=mask)
        first = 1 if keys[3] == 4 else 3
        assert found[:, 0].numpy().tolist() == [0, 1, 2, first, 1]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_value_is_a_key(jit_compile):
    features = tf.range(5.0)[:, tf.newaxis]
    layer = OncePerKey(keras.layers.Activation("linear"))
    call = tf.function(layer, jit_compile=jit_compile)
    found = call(features, tf.constant([-1, 4, -1, -7, 4]))
    assert found[:, 0].numpy().tolist() == [0, 1, 0, 3, 1]
    if not jit_compile:
        found = call(features, tf.constant(["", "a", "", "b", "a"]))
        assert found[:, 0].numpy().tolist() == [0, 1, 0, 3, 1]


def test_several_keys_have_to_agree():
    keys = {
        "user": tf.constant([1, 1, 2, 1, -1, -1]),
        "day": tf.constant(["a", "b", "a", "a", "a", "a"]),
    }
    features = tf.range(6.0)[:, tf.newaxis]
    layer = OncePerKey(keras.layers.Activation("linear"))
    assert layer(features, keys)[:, 0].numpy().tolist() == [0, 1, 2, 0, 4, 4]
    found = layer(features, keys, key_mask=tf.constant([True] * 4 + [False] * 2))
    assert found[:, 0].numpy().tolist() == [0, 1, 2, 0, 4, 5]


def test_nested_features_and_outputs():
    tower = TwoFeatures()
    features = {
        "user": tf.constant(KEYS),
        "context": {"numbers": tf.constant(features_of(KEYS))},
    }
    plain = tower(features)
    found = OncePerKey(tower)(features, tf.constant(KEYS))
    assert found["heads"].shape == (8, 2, 3)
    for name in ("sum", "heads"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-5, atol=1e-6)


def test_string_features():
    lookup = keras.layers.StringLookup(vocabulary=["a", "b", "c"])
    tower = keras.Sequential([lookup, keras.layers.Embedding(4, 2)])
    users = tf.constant(["a", "b", "a", "x", "b"])
    found = OncePerKey(tower)(users, users)
    np.testing.assert_allclose(found, tower(users), rtol=1e-5, atol=1e-6)


def test_dropout_is_per_key():
    layer = OncePerKey(keras.layers.Dropout(0.5))
    keys = np.arange(1_000) % 100
    ones = tf.ones([1_000, 16])
    found = layer(ones, tf.constant(keys), training=True).numpy()
    assert set(np.unique(found)) == {0.0, 2.0}
    for key in range(100):
        assert (found[keys == key] == found[key]).all()
    assert len(np.unique(found, axis=0)) > 90
    np.testing.assert_array_equal(layer(ones, tf.constant(keys)), ones)


def test_batch_normalization_sees_each_key_once():
    features = np.array([[1.0], [1.0], [1.0], [5.0]], np.float32)
    layer = OncePerKey(keras.layers.BatchNormalization(momentum=0.0, epsilon=1e-9))
    found = layer(tf.constant(features), tf.constant([8, 8, 8, 2]), training=True)
    np.testing.assert_allclose(found[:, 0], [-1, -1, -1, 1], rtol=1e-5)
    np.testing.assert_allclose(layer.tower.moving_mean, [3.0], rtol=1e-6)


def test_no_rows():
    layer = OncePerKey(mlp())
    for keys in (tf.zeros([0], tf.int64), tf.zeros([0], tf.string)):
        embeddings, rows = layer.distinct(tf.zeros([0, 4]), keys)
        assert embeddings.shape == (0, 3)
        assert rows.shape == (0,)
        assert layer(tf.zeros([0, 4]), keys).shape == (0, 3)


def test_other_numbers_of_keys_do_not_retrace():
    layer = OncePerKey(mlp())
    layer.tower(features_of([0]))  # Variables that a function makes cost it a trace.
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def step(features, keys):
        traces.append(1)
        return layer(features, keys, training=True)

    for num_rows, num_keys in ((8, 3), (8, 8), (5, 1), (0, 1)):
        keys = np.arange(num_rows) % num_keys
        found = step(features_of(keys), keys)
        np.testing.assert_allclose(found, layer.tower(features_of(keys)), atol=1e-6)
    assert traces == [1]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    before = keras.mixed_precision.global_policy() if not IS_KERAS_3 else None
    before = before or keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        tower = keras.layers.Dense(3)
        layer = OncePerKey(tower)
        large = 2**24 + 1  # Lost in half precision, and in float32.
        keys = tf.constant([large, large - 1, large])
        features = tf.constant([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
        found = layer(features, keys)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert found.dtype == policy.removeprefix("mixed_")
    assert tower.trainable_variables[0].dtype == "float32"
    np.testing.assert_array_equal(found, tower(features))
    assert (found[0].numpy() != found[1].numpy()).any()


def test_checked_features():
    layer = OncePerKey(mlp(), check_features=True)
    features, keys = features_of(KEYS), tf.constant(KEYS)
    found = layer(tf.constant(features), keys)
    np.testing.assert_allclose(found, layer.tower(features), atol=1e-6)
    features[:, 1] = np.nan
    layer(tf.constant(features), keys)
    features[3, 0] += 1
    for function in (layer, tf.function(layer)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="same features"):
            function(tf.constant(features), keys)
    OncePerKey(layer.tower)(tf.constant(features), keys)


def test_checked_strings():
    layer = OncePerKey(Recorder(), check_features=True)
    layer(tf.constant(["a", "b", "a"]), tf.constant([1, 2, 1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="same features"):
        layer(tf.constant(["a", "b", "c"]), tf.constant([1, 2, 1]))


@pytest.mark.parametrize(
    ("features", "keys", "message"),
    [
        (np.ones((3, 2)), [1, 2], "size 2 along axis 0"),
        (np.ones((2, 2)), [[1, 2]], "rank 1"),
        (np.ones((2, 2)), [1.0, 2.0], "integers or strings"),
        (np.ones((2, 2)), {}, "at least one key"),
        (np.ones((2, 2)), {"a": [1, 2], "b": [1]}, "size 1|size 2"),
        (np.float32(1), [1, 2], "scalar"),
    ],
)
def test_bad_calls(features, keys, message):
    layer = OncePerKey(keras.layers.Activation("linear"))
    features = tf.constant(features, tf.float32)
    if isinstance(keys, dict):
        keys = {name: tf.constant(key) for name, key in keys.items()}
    else:
        keys = tf.constant(keys)
    with pytest.raises(ValueError, match=message):
        layer(features, keys=keys)


def test_sizes_that_differ_when_run():
    layer = OncePerKey(keras.layers.Activation("linear"))
    specs = [tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int64)]
    function = tf.function(lambda f, k: layer(f, k), input_signature=specs)
    with pytest.raises(tf.errors.InvalidArgumentError, match="row for each key"):
        function(tf.ones([3, 2]), tf.ones([2], tf.int64))


@pytest.mark.parametrize("num_rows", [1, 3])
def test_ragged_features_have_a_row_for_each_key(num_rows):
    layer = OncePerKey(Recorder())
    features = tf.ragged.constant([[1.0, 2.0], [3.0], [4.0]])[:num_rows]
    keys = tf.constant([1, 2])
    with pytest.raises(ValueError, match="row for each key"):
        layer(features, keys=keys)
    spec = [tf.RaggedTensorSpec([None, None]), tf.TensorSpec([None], tf.int32)]
    function = tf.function(lambda f, k: layer(f, k), input_signature=spec)
    with pytest.raises(tf.errors.InvalidArgumentError, match="row for each key"):
        function(features, keys)


def test_towers_that_are_no_layers():
    with pytest.raises(ValueError, match="Keras layer.*function.*Lambda"):
        OncePerKey(lambda x: x)


def test_config():
    layer = OncePerKey(mlp(dropout=0.3), check_features=True, name="queries")
    layer(features_of(KEYS), tf.constant(KEYS))
    rebuilt = OncePerKey.from_config(layer.get_config())
    assert rebuilt.name == "queries"
    assert rebuilt.check_features
    assert rebuilt.tower.layers[1].rate == 0.3
    rebuilt(features_of(KEYS), tf.constant(KEYS))
    rebuilt.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        rebuilt(features_of(KEYS), tf.constant(KEYS)),
        layer(features_of(KEYS), tf.constant(KEYS)),
    )


def functional_model():
    features = keras.Input([4])
    keys = keras.Input([], dtype="int64")
    outputs = OncePerKey(mlp(), name="once")(features, keys)
    assert tuple(outputs.shape) == (None, 3)
    return keras.Model([features, keys], outputs)


def test_saved_and_loaded(tmp_path):
    model = functional_model()
    inputs = [tf.constant(features_of(KEYS)), tf.constant(KEYS, tf.int64)]
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs), expected, rtol=1e-5, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    other = functional_model()
    other.get_layer("once").tower.layers[0].set_weights([np.zeros((4, 8)), np.ones(8)])
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(other(inputs), expected, rtol=1e-5, atol=1e-6)


def test_keras_own_saved_model(tmp_path):
    model = functional_model()
    features, keys = tf.constant(features_of(KEYS)), tf.constant(KEYS, tf.int64)
    expected = model([features, keys])
    if IS_KERAS_3:
        model.export(str(tmp_path / "saved"), verbose=False)
        loaded = tf.saved_model.load(str(tmp_path / "saved"))
        found = loaded.serve([features, keys])
    else:
        model.save(tmp_path / "saved", save_format="tf")
        found = keras.models.load_model(tmp_path / "saved")([features, keys])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_as_saved_model_and_checkpoint(tmp_path):
    layer = OncePerKey(mlp())
    features, keys = tf.constant(features_of(KEYS)), tf.constant(KEYS, tf.int64)
    expected = layer(features, keys)
    specs = [tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int64)]
    module = tf.Module()
    module.layer = layer
    module.serve = tf.function(lambda f, k: layer(f, k), input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(
        loaded.serve(features, keys), expected, rtol=1e-5, atol=1e-6
    )
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    other = OncePerKey(mlp(seed=7))
    other(features, keys)
    tf.train.Checkpoint(layer=other).restore(path)
    np.testing.assert_allclose(other(features, keys), expected, rtol=1e-5, atol=1e-6)


class Regression(Model):
    """Sums a tower's outputs; with `once` the tower runs once a key."""

    def __init__(self, once):
        super().__init__()
        self.tower = mlp()
        self.query = OncePerKey(self.tower) if once else None

    def compute_loss(self, features, training=False):
        inputs = features["x"]
        outputs = (
            self.tower(inputs, training=training)
            if self.query is None
            else self.query(inputs, features["key"], training=training)
        )
        errors = tf.reduce_sum(outputs, axis=1) - features["y"]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.reduce_mean(errors**2) / replicas


def fitted_weights(once, scope):
    keys = np.repeat(np.arange(12), 4)
    columns = {
        "x": features_of(keys),
        "y": np.linspace(0, 1, 48, dtype=np.float32),
        "key": keys,
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(16)
    with scope:
        model = Regression(once)
        model.tower.build([None, 4])
        model.compile(optimizer=keras.optimizers.SGD(0.1))
    model.fit(dataset, epochs=2, verbose=0)
    return model, model.tower.get_weights()


@pytest.mark.parametrize("replicas", [1, 2])
def test_fit_trains_as_with_the_plain_tower(replicas, request):
    def scope():
        if replicas == 1:
            return tf.distribute.get_strategy().scope()
        return request.getfixturevalue("two_replicas").scope()

    _, plain = fitted_weights(False, scope())
    model, once = fitted_weights(True, scope())
    for ours, theirs in zip(once, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    if IS_KERAS_3:
        assert not model.jit_compile
