from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import StreamingFrequency


def learn(layer, batches):
    for batch in batches:
        layer(tf.constant(batch), training=True)


def published_update(batches, num_ids, rate, gap):
    """Algorithm 2 without collisions; one step for each distinct id a batch."""
    last, mean = np.zeros(num_ids), np.full(num_ids, float(gap))
    for t, batch in enumerate(batches, start=1):
        for y in set(batch):
            mean[y] = (1 - rate) * mean[y] + rate * (t - last[y])
            last[y] = t
    return -np.log(mean)


def counting_update(batches, num_ids, rate, gap):
    """c occurrences share the gap in examples and take c steps."""
    last, mean, now = np.zeros(num_ids), np.full(num_ids, float(gap)), 0
    for batch in batches:
        now += len(batch)
        for y in set(batch):
            c = list(batch).count(y)
            each = (now - last[y]) / c
            for _ in range(c):
                mean[y] = (1 - rate) * mean[y] + rate * each
            last[y] = now
    return -np.log(mean)


@pytest.fixture
def batches():
    rng = np.random.default_rng(4)
    p = 1 / np.arange(1, 21)
    return [rng.choice(20, 16, p=p / p.sum()) for _ in range(40)]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "mode, oracle", [("hit", published_update), ("count", counting_update)]
)
def test_updates_equal_the_oracle(batches, mode, oracle, graph):
    layer = StreamingFrequency(
        10_007, learning_rate=0.05, mode=mode, initial_gap=100.0, seed=3
    )
    ids = tf.range(20)
    assert len(set(layer._buckets(tf.range(20, dtype=tf.int64)).numpy()[0])) == 20
    step = tf.function(layer) if graph else layer
    for batch in batches:
        step(tf.constant(batch), training=True)
    expected = oracle(batches, 20, 0.05, 100.0)
    np.testing.assert_allclose(layer(ids), expected, rtol=1e-5)


def test_warm_up_counts_exactly(batches):
    """Until an id has occurred 1/a times its q is its share of the examples."""
    layer = StreamingFrequency(10_007, learning_rate=1e-4)
    learn(layer, batches)
    stream = np.concatenate(batches)
    seen = sorted(set(stream))
    assert set(batches[-1]) < set(seen)
    expected = [np.mean(stream == y) for y in seen]
    np.testing.assert_allclose(np.exp(layer(tf.constant(seen))), expected, rtol=1e-5)


def test_warm_up_ends_in_the_moving_average():
    """Drift is followed: after a switch the old frequency is forgotten."""
    layer = StreamingFrequency(1000, learning_rate=0.05)
    learn(layer, [[1, 2, 2, 2]] * 300)
    np.testing.assert_allclose(np.exp(layer(tf.constant([1, 2]))), [0.25, 0.75])
    learn(layer, [[1, 1, 1, 2]] * 300)
    np.testing.assert_allclose(
        np.exp(layer(tf.constant([1, 2]))), [0.75, 0.25], rtol=1e-3
    )


def test_ids_never_seen_have_a_finite_prior():
    published = StreamingFrequency(1000, initial_gap=50.0)
    np.testing.assert_allclose(published(tf.constant([9])), [-np.log(50.0)])
    warm = StreamingFrequency(1000)
    np.testing.assert_array_equal(warm(tf.constant([9])), [0.0])
    learn(warm, [[1, 2, 3, 4]] * 5)
    np.testing.assert_allclose(warm(tf.constant([9])), [-np.log(21.0)])


def test_reading_does_not_write(batches):
    layer = StreamingFrequency(1000)
    learn(layer, batches[:3])
    before = [v.numpy().copy() for v in layer.variables]
    first = layer(tf.constant([1, 2, 3]))
    second = layer(tf.constant([1, 2, 3]), training=False)
    np.testing.assert_array_equal(first, second)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_learns_from_the_leading_ids_only():
    layer = StreamingFrequency(1000)
    log_q = layer(tf.constant([5, 6, 7]), num_positives=2, training=True)
    np.testing.assert_allclose(np.exp(log_q), [0.5, 0.5, 1 / 3])


def test_partial_batches_do_not_shift_the_estimate():
    """Time is counted in examples, so a batch's size is no unit."""
    layer = StreamingFrequency(1000, learning_rate=0.01)
    learn(layer, [[1, 2], [1, 2, 1, 2, 1, 2], [1, 2, 1, 2]] * 100)
    np.testing.assert_allclose(
        np.exp(layer(tf.constant([1, 2]))), [0.5, 0.5], rtol=0.05
    )


def test_more_hashes_undo_collisions():
    """Of 60 ids in 30 buckets; the rarest estimate of m hashes is taken."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(60, 0.5))
    batches = rng.choice(60, (150, 32), p=p)
    errors = []
    for num_hashes in (1, 4):
        layer = StreamingFrequency(30, num_hashes=num_hashes, learning_rate=0.01)
        learn(layer, batches)
        estimate = np.exp(layer(tf.range(60)))
        errors.append(np.abs(estimate - p).sum())
    assert errors[1] < errors[0]


@pytest.mark.parametrize("dtype", ["int32", "int64", "string"])
def test_kinds_of_ids(dtype):
    layer = StreamingFrequency(1000)
    ids = tf.constant(["7", "7", "-8", "9"])
    if dtype != "string":
        ids = tf.strings.to_number(ids, tf.as_dtype(dtype))
    np.testing.assert_allclose(
        np.exp(layer(ids, training=True)), [0.5, 0.5, 0.25, 0.25], rtol=1e-6
    )


def test_buckets_are_spread_evenly():
    """Chi-square over 64 buckets; false-alarm rate 1e-4 for each of two hashes."""
    layer = StreamingFrequency(64, num_hashes=2, seed=1)
    ids = tf.range(6400, dtype=tf.int64) * 1024
    for index, buckets in enumerate(layer._buckets(ids).numpy()):
        counts = np.bincount(buckets - 64 * index, minlength=64)
        assert len(counts) == 64
        # 99.99% quantile of chi-square with 63 degrees of freedom: 112.
        assert ((counts - 100) ** 2 / 100).sum() < 112


def test_state_stays_float32_and_checkpoints(tmp_path, batches):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        layer = StreamingFrequency(1000)
        log_q = layer(tf.constant(batches[0]), training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert log_q.dtype == tf.float32
    assert {tf.as_dtype(v.dtype).name for v in layer.variables} == {"int64", "float32"}
    learn(layer, batches)
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "state")
    restored = StreamingFrequency(1000)
    tf.train.Checkpoint(layer=restored).restore(path).assert_consumed()
    for one, other in zip(layer.variables, restored.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    learn(layer, batches[:2])
    learn(restored, batches[:2])
    np.testing.assert_array_equal(layer(tf.range(20)), restored(tf.range(20)))


def test_rebuilt_from_its_config(batches):
    layer = StreamingFrequency(50, 3, 0.2, "hit", 30.0, 7, name="frequency")
    rebuilt = StreamingFrequency.from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()
    learn(layer, batches[:4])
    learn(rebuilt, batches[:4])
    np.testing.assert_array_equal(layer(tf.range(20)), rebuilt(tf.range(20)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_buckets": 0}, "num_buckets.*at least 1"),
        ({"num_hashes": 0}, "num_hashes.*at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate.*\(0, 1\]"),
        ({"learning_rate": 1.5}, r"learning_rate.*\(0, 1\]"),
        ({"mode": "both"}, "mode.*count.*received 'both'"),
        ({"initial_gap": 0.5}, "initial_gap.*at least 1"),
        ({"dense": True, "num_hashes": 2}, "num_hashes=1.*received 2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StreamingFrequency(**options)


@pytest.mark.parametrize(
    "ids, message",
    [
        (tf.constant([1.0]), "integers or strings.*float32"),
        (tf.constant([[1, 2]]), "rank 1"),
        (tf.ragged.constant([[1], [2, 3]]), "ragged"),
    ],
)
def test_bad_ids(ids, message):
    layer = StreamingFrequency(10)
    with pytest.raises(ValueError, match=message):
        layer(ids, training=True)
    assert not any(np.any(v.numpy()) for v in layer.variables)


@pytest.mark.parametrize("mode", ["count", "hit"])
def test_dense_ids_do_not_collide(batches, mode):
    """Twenty ids in twenty buckets are estimated as in ten thousand."""
    dense = StreamingFrequency(20, mode=mode, dense=True)
    hashed = StreamingFrequency(10_007, mode=mode, seed=3)
    learn(dense, batches)
    learn(hashed, batches)
    np.testing.assert_array_equal(dense(tf.range(20)), hashed(tf.range(20)))


@pytest.mark.parametrize("bad", [-1, 5])
def test_dense_ids_out_of_range_change_nothing(bad):
    layer = StreamingFrequency(5, dense=True)
    step = tf.function(lambda ids: layer(ids, training=True))
    step(tf.constant([0, 4, 4]))
    before = [v.numpy() for v in layer.variables]
    for function in (step, lambda ids: layer(ids, training=True)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Dense ids"):
            function(tf.constant([1, bad, 2]))
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_dense_ids_are_integers():
    with pytest.raises(ValueError, match="dense=True.*received strings"):
        StreamingFrequency(5, dense=True)(tf.constant(["a"]))


@pytest.mark.parametrize(
    "options, ids, size",
    [
        ({}, 2**17, 8 * 2**20),
        ({"num_ids": 1_000_000}, 1_000_000, 64_000_000),
        ({"num_ids": 10}, 10, 8 * 2**20),
        ({"num_ids": 1000, "dense": True}, 500, 16_000),
    ],
)
def test_size(options, ids, size):
    layer = StreamingFrequency(**options)
    assert sum(v.numpy().nbytes for v in layer.variables) == size + 8  # And a clock.
    assert layer.num_buckets >= 2 * ids
    rebuilt = StreamingFrequency.from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()
    assert rebuilt.num_buckets == layer.num_buckets


def test_size_is_given_once():
    with pytest.raises(ValueError, match="Leave one out"):
        StreamingFrequency(100, num_ids=50)
    with pytest.raises(ValueError, match="`num_ids`.*at least 1"):
        StreamingFrequency(num_ids=0)


def uniform_ids(num_ids):
    """All ids, in several batches."""
    return np.random.default_rng(0).permutation(num_ids).reshape(10, -1)


@pytest.mark.parametrize("initial_gap", [None, 100.0])
@pytest.mark.parametrize("mode", ["count", "hit"])
def test_crowded_buckets_are_told(capfd, mode, initial_gap):
    """Of the buckets the share 1 - exp(-ids / buckets) is taken."""
    options = {"mode": mode, "initial_gap": initial_gap, "name": "few"}
    for num_ids, crowded in ((2000, True), (500, False)):
        layer = StreamingFrequency(1000, **options)
        step = tf.function(layer)
        for _ in range(2):  # The clock doubles between.
            for ids in uniform_ids(num_ids):
                step(tf.constant(ids), training=True)
        told = "WARNING: few: more than half of the 1000 buckets"
        assert (told in capfd.readouterr().err) == crowded
    layer = StreamingFrequency(1000, **options)
    layer.warm_start(np.ones(2000), batch_size=10 if mode == "hit" else None)
    assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    "options", [{"num_buckets": 2000, "dense": True}, {"num_ids": 2000}]
)
def test_sizes_that_fit_are_not_told(capfd, options):
    layer = StreamingFrequency(**options)
    learn(layer, uniform_ids(2000))
    learn(layer, uniform_ids(2000))
    assert "more than half" not in capfd.readouterr().err


def test_replicas_tell_of_crowded_buckets_once(capfd, two_replicas):
    with two_replicas.scope():
        layer = StreamingFrequency(64, name="few")

    @tf.function
    def step(ids):
        two_replicas.run(lambda i: layer(i, training=True), args=(ids,))

    step(tf.range(200))
    assert capfd.readouterr().err.count("WARNING: few") == 1


@pytest.mark.parametrize("initial_gap", [None, 50.0])
def test_warm_start_is_exact(initial_gap):
    counts = np.array([70, 20, 9, 1, 0])
    layer = StreamingFrequency(5, dense=True, initial_gap=initial_gap)
    layer.warm_start(counts)
    np.testing.assert_allclose(np.exp(layer(tf.range(4))), counts[:4] / 100, rtol=1e-6)
    never = 101.0 if initial_gap is None else initial_gap
    np.testing.assert_allclose(np.exp(layer(tf.constant([4]))), 1 / never, rtol=1e-6)

    hit = StreamingFrequency(5, mode="hit", dense=True, initial_gap=initial_gap)
    hit.warm_start(counts, batch_size=10)
    expected = 1 - (1 - counts[:4] / 100) ** 10
    np.testing.assert_allclose(np.exp(hit(tf.range(4))), expected, rtol=1e-5)


def test_warm_start_goes_on_as_the_stream_itself(batches):
    """In the warm-up, known counts are worth what their examples were."""
    known, rest = np.concatenate(batches[:20]), batches[20:]
    warm = StreamingFrequency(20, dense=True, learning_rate=1e-4)
    warm.warm_start(np.bincount(known, minlength=20))
    learn(warm, rest)
    share = np.mean(np.concatenate(batches)[:, np.newaxis] == np.arange(20), axis=0)
    seen = np.flatnonzero(share)
    np.testing.assert_allclose(np.exp(warm(tf.constant(seen))), share[seen], rtol=1e-5)


def test_warm_start_of_strings_and_shared_buckets():
    layer = StreamingFrequency(1, num_hashes=2)
    layer.warm_start({"a": 3, "b": 1})
    np.testing.assert_allclose(layer(tf.constant(["a", "b"])), [0, 0], atol=1e-6)
    layer = StreamingFrequency(1000, num_hashes=2)
    layer.warm_start({"a": 3, "b": 1})
    np.testing.assert_allclose(
        np.exp(layer(tf.constant(["a", "b"]))), [0.75, 0.25], rtol=1e-6
    )


def test_bad_warm_starts():
    layer = StreamingFrequency(10, mode="hit")
    with pytest.raises(ValueError, match="batch_size.*received None"):
        layer.warm_start([1, 2])
    with pytest.raises(ValueError, match="batch_size.*at least 1"):
        layer.warm_start([1, 2], batch_size=0)
    with pytest.raises(ValueError, match="none negative"):
        layer.warm_start([1, -2], batch_size=4)
    learn(layer, [[1, 2]])
    with pytest.raises(ValueError, match="warm start comes first"):
        layer.warm_start([1, 2], batch_size=4)


@pytest.mark.parametrize("mode", ["count", "hit"])
@pytest.mark.parametrize("options", [{"num_hashes": 2}, {"dense": True}])
def test_xla_equals_eager(batches, mode, options):
    eager = StreamingFrequency(50, mode=mode, **options)
    compiled = StreamingFrequency(50, mode=mode, **options)
    step = tf.function(lambda ids: compiled(ids, training=True), jit_compile=True)
    for batch in batches:
        ids = tf.constant(batch)
        np.testing.assert_allclose(step(ids), eager(ids, training=True), atol=1e-5)
    for one, other in zip(eager.variables, compiled.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_saved_model_reads_what_was_learned(tmp_path, batches):
    module = tf.Module()
    module.layer = StreamingFrequency(1000)
    learn(module.layer, batches)
    spec = tf.TensorSpec([None], tf.int64)
    module.log_q = tf.function(lambda ids: module.layer(ids), input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    ids = tf.range(30, dtype=tf.int64)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    # A graph may round the last bit otherwise.
    np.testing.assert_allclose(loaded.log_q(ids), module.layer(ids), rtol=1e-6)


def test_no_input_puts_nan_into_the_state():
    layer = StreamingFrequency(100, num_hashes=2, learning_rate=1.0)
    extremes = tf.constant([2**63 - 1, -(2**63), 0, 0], tf.int64)
    for ids in (extremes, extremes[:0], tf.zeros([3000], tf.int64), extremes):
        assert np.all(np.isfinite(layer(ids, training=True)))
    for variable in layer.variables:
        assert np.all(np.isfinite(variable.numpy()))


def test_counting_stops_before_float32_does():
    """A bucket beyond the cap still tells how often its id is repeated."""
    layer = StreamingFrequency(2, dense=True, learning_rate=0.01)
    layer.warm_start([3 * 2**23, 2**23])
    for _ in range(3):
        layer(tf.constant([0, 0, 0, 1]), training=True)
    assert layer.variables[-1].numpy().max() == 2**23
    np.testing.assert_allclose(np.exp(layer(tf.range(2))), [0.75, 0.25], rtol=1e-5)


@pytest.mark.parametrize("initial_gap", [None, 100.0])
def test_several_steps_an_execution(batches, initial_gap):
    """`compile(steps_per_execution=)` runs the same updates in one graph."""

    class Learner(keras.Model):
        def __init__(self):
            super().__init__()
            self.frequency = StreamingFrequency(
                50, num_hashes=2, initial_gap=initial_gap
            )

        def call(self, ids, training=False):
            return self.frequency(ids, training=training)

    states = []
    for steps in (1, 4):
        model = Learner()
        model.compile(loss="mse", steps_per_execution=steps)
        data = tf.data.Dataset.from_tensor_slices((batches, np.zeros((40, 16))))
        model.fit(data, verbose=0)
        states.append([v.numpy() for v in model.frequency.variables])
    assert states[0][0] == 640
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("initial_gap", [None, 100.0])
def test_what_another_worker_wrote_in_between_keeps_log_q_finite(initial_gap):
    """Workers of a parameter server update one estimator at the same time."""
    layer = StreamingFrequency(50, num_hashes=1, dense=True, initial_gap=initial_gap)
    learn(layer, [[1, 1, 2, 3]])
    # Another worker's clock went on.
    layer._last_seen.assign_add(tf.fill([50], tf.constant(40, tf.int64)))
    for training in (False, True):
        log_q = layer(tf.constant([1, 1, 2, 3, 4]), training=training).numpy()
        assert np.isfinite(log_q).all() and (log_q <= 0).all(), log_q


def test_threads_that_learn_at_once_keep_log_q_finite():
    layer = StreamingFrequency(50, num_hashes=1, dense=True)
    step = tf.function(layer)
    rng = np.random.default_rng(0)
    batches = [tf.constant(rng.integers(0, 5, 8)) for _ in range(300)]
    step(batches[0], training=True)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda ids: step(ids, training=True), batches))
    assert np.isfinite(np.stack(results)).all() and np.max(results) <= 0
