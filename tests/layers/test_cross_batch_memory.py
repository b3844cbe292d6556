import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives.layers import CrossBatchMemory


def batch(start, size=2, width=3):
    """Entries that carry their number, counted since the start."""
    numbers = np.arange(start, start + size)
    return {
        "embeddings": tf.constant(numbers[:, None] + np.zeros([1, width]), tf.float32),
        "ids": tf.constant(numbers + 100),
        "keys": tf.constant(np.stack([numbers + 200, numbers + 300], axis=1)),
        "log_q": tf.constant(-numbers, tf.float32),
    }


def numbers_of(entries):
    """The entries' numbers, after making sure that all parts agree."""
    numbers = entries.embeddings.numpy()[:, 0].astype(int)
    np.testing.assert_array_equal(entries.ids, numbers + 100)
    np.testing.assert_array_equal(entries.keys[:, 0], numbers + 200)
    np.testing.assert_array_equal(entries.keys[:, 1], numbers + 300)
    np.testing.assert_array_equal(entries.log_q, -numbers)
    return numbers.tolist()


def memory(capacity=7, **options):
    return CrossBatchMemory(capacity, width=3, num_keys=2, **options)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("sizes", [[2, 2, 2, 2, 2, 2], [3, 1, 7, 2, 5, 4, 1]])
def test_first_in_first_out(graph, sizes):
    """Beside each batch come the newest that fit with it into the queue."""
    layer = memory()
    step = tf.function(layer) if graph else layer
    past = []
    for size in sizes:
        entries = step(**batch(len(past), size), training=True)
        assert numbers_of(entries) == past[::-1][: 7 - size]
        past += range(len(past), len(past) + size)


def test_a_queue_of_the_batch_size_adds_nothing():
    layer = memory(2)
    for start in range(3):
        assert numbers_of(layer(**batch(start), training=True)) == []


def test_reading_does_not_write():
    layer = memory()
    layer(**batch(0), training=True)
    before = [v.numpy() for v in layer.variables]
    assert numbers_of(layer(**batch(2))) == [1, 0]
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_warm_up():
    layer = memory(warm_up_steps=2)
    found = [numbers_of(layer(**batch(2 * i), training=True)) for i in range(4)]
    assert found == [[], [], [3, 2, 1, 0], [5, 4, 3, 2, 1]]


def test_share_changes_without_a_new_trace():
    layer = memory()
    step = tf.function(lambda **given: layer(**given, training=False))
    for start in (0, 2, 4):
        layer(**batch(start), training=True)
    found = []
    for share in (1.0, 0.5, 0.0):
        layer.share.assign(share)
        found.append(numbers_of(step(**batch(6))))
    assert found == [[5, 4, 3, 2, 1], [5, 4], []]
    assert step.experimental_get_tracing_count() == 1


def test_one_trace_for_all_batch_sizes():
    layer = memory()
    spec = tf.TensorSpec([None, 3], tf.float32)

    @tf.function(input_signature=[spec, tf.TensorSpec([None, 2], tf.int64)])
    def step(embeddings, keys):
        return layer(embeddings, keys=keys, training=True).embeddings

    sizes = [len(step(**_embeddings_and_keys(size))) for size in (1, 5, 2, 7)]
    assert sizes == [0, 1, 5, 0]
    assert step.experimental_get_tracing_count() == 1


def _embeddings_and_keys(size):
    return {
        "embeddings": tf.zeros([size, 3]),
        "keys": tf.zeros([size, 2], tf.int64),
    }


def test_no_gradient_flows_in_or_out():
    layer = memory()
    given = batch(0)
    embeddings = given.pop("embeddings")
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        layer(embeddings, **given, training=True)
        total = tf.reduce_sum(layer(embeddings, **given).embeddings)
    assert total == 3.0  # Two entries of three, of 0 and of 1, read back.
    assert tape.gradient(total, embeddings) is None


def test_checkpoints_and_goes_on(tmp_path):
    layer, other = memory(), memory()
    for start in (0, 2, 4, 6):
        layer(**batch(start), training=True)
    layer.share.assign(0.9)
    path = tf.train.Checkpoint(memory=layer).save(tmp_path / "memory")
    tf.train.Checkpoint(memory=other).restore(path).assert_consumed()
    for one in (layer, other):
        assert numbers_of(one(**batch(8), training=True)) == [7, 6, 5, 4]


def test_state_is_as_large_as_documented():
    sizes = [v.numpy().nbytes for v in memory(1000).variables if v.shape.rank]
    assert sum(sizes) == 1000 * (4 * 3 + 9 * 2 + 13)


def test_strings_and_missing_parts():
    layer = CrossBatchMemory(4, width=3)
    layer(tf.ones([2, 3]), ids=tf.constant(["a", "b"]), training=True)
    again = layer(tf.ones([1, 3]), ids=tf.constant(["b"]))
    assert again.ids.dtype == tf.int64 and len(set(again.ids.numpy())) == 2
    np.testing.assert_array_equal(again.log_q, [0.0, 0.0])
    assert again.keys.shape == (2, 0)


def test_nothing_is_left_of_the_entry_that_was_in_a_place():
    layer = CrossBatchMemory(4, width=1)
    old = {"ids": tf.constant([7, 8]), "log_q": tf.constant([-5.0, -6.0])}
    for _ in range(2):
        layer(tf.ones([2, 1]), **old, training=True)
    layer(tf.ones([2, 1]), training=True)
    entries = layer(tf.ones([0, 1]))
    np.testing.assert_array_equal(entries.has_id, [False, False, True, True])
    np.testing.assert_array_equal(entries.ids[2:], [8, 7])
    np.testing.assert_array_equal(entries.log_q, [0, 0, -6, -5])
    distances, found = layer.staleness([7, 0], tf.ones([2, 1]))
    np.testing.assert_array_equal(found, [1, 0])


def test_keys_are_not_left_out():
    layer = memory()
    with pytest.raises(ValueError, match="keeps 2 keys an entry, received none"):
        layer.write(tf.ones([2, 3]))
    assert not layer._written.numpy()


def test_staleness_is_the_cosine_distance_to_the_newest_entry():
    layer = CrossBatchMemory(6, width=2, report_staleness=True)
    old = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    layer(old, ids=tf.constant([7, 8, 7]), training=True)
    distances, found = layer.staleness([7, 8, 9], [[1.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(distances, [1 - np.sqrt(0.5), 0, 0], atol=1e-6)
    np.testing.assert_array_equal(found, [1, 1, 0])
    (metric,) = layer.metrics if hasattr(layer, "metrics") else [layer._staleness]
    assert metric.result() == 0
    layer(tf.constant([[-5.0, 0.0]]), ids=tf.constant([8]), training=True)
    np.testing.assert_allclose(metric.result(), 2.0)


def test_staleness_of_an_empty_queue():
    distances, found = memory().staleness([1, 2], tf.ones([2, 3]))
    np.testing.assert_array_equal(found, [0, 0])
    np.testing.assert_array_equal(distances, [0, 0])


def test_rebuilt_from_its_config():
    layer = CrossBatchMemory(9, 4, 1, 100, True, name="queue")
    assert CrossBatchMemory.from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"capacity": 0}, "capacity.*at least 1"),
        ({"width": 0}, "width.*at least 1"),
        ({"num_keys": -1}, "num_keys.*at least 0"),
        ({"warm_up_steps": -1}, "warm_up_steps.*at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        CrossBatchMemory(**{"capacity": 4, "width": 2, **options})


def test_bad_batches_change_nothing():
    layer = CrossBatchMemory(4, width=2, num_keys=1)
    keys = tf.zeros([5, 1], tf.int64)
    bad = [
        (ValueError, "holds 4 candidates.*5", {"embeddings": tf.zeros([5, 2])}),
        (ValueError, "size 2", {"embeddings": tf.zeros([2, 3]), "keys": keys[:2]}),
        (ValueError, "keeps 1 keys", {"embeddings": tf.zeros([2, 2]), "keys": None}),
    ]
    for error, message, given in bad:
        with pytest.raises(error, match=message):
            layer(**{"keys": keys, **given}, training=True)
    step = tf.function(
        lambda e, k: layer(e, keys=k, training=True),
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32),
            tf.TensorSpec([None, 1], tf.int64),
        ],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least a batch"):
        step(tf.zeros([5, 2]), keys)
    # Which of a graph's ops fails first is chance, so that only one may fail.
    assert layer.read(tf.constant(5)).ids.shape == [0]
    assert not any(np.any(v.numpy()) for v in layer.variables if "share" not in v.name)


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("wrong", ["embeddings", "log_q"])
def test_what_is_not_finite_is_not_remembered(wrong, jit_compile):
    """Eager, in a graph and under XLA: others keep their order, and it is counted."""
    layer = memory()

    def write(entries):
        layer(**entries, training=True)

    if jit_compile is not None:
        write = tf.function(write, jit_compile=jit_compile)
    write(batch(0))
    write(batch(2))
    bad = batch(4, size=3)
    values = bad[wrong].numpy()
    values[1, ...] = np.nan
    values[0, ...] = -np.inf
    write({**bad, wrong: tf.constant(values)})
    assert numbers_of(layer(tf.zeros([0, 3]), keys=tf.zeros([0, 2], tf.int64))) == [
        *[6, 3, 2, 1, 0]
    ]
    write(batch(7, size=3))
    entries = layer(tf.zeros([0, 3]), keys=tf.zeros([0, 2], tf.int64))
    assert numbers_of(entries) == [9, 8, 7, 6, 3, 2, 1]
    assert layer.num_not_finite.numpy() == 2


def test_staleness_leaves_out_what_is_not_finite():
    layer = CrossBatchMemory(6, width=2, report_staleness=True)
    layer(tf.constant([[1.0, 0.0]]), ids=tf.constant([7]), training=True)
    moved = tf.constant([[np.nan, 0.0], [0.0, 1.0]])
    layer(moved, ids=tf.constant([7, 7]), training=True)
    np.testing.assert_allclose(layer._staleness.result(), 1.0)


def test_entries_without_an_id_are_no_item():
    """Whatever stands in their place: 0 is an id like any other."""
    layer = CrossBatchMemory(6, width=2)
    layer(tf.ones([2, 2]), training=True)
    _, found = layer.staleness([0, -1], tf.ones([2, 2]))
    np.testing.assert_array_equal(found, [0, 0])
    layer(tf.ones([1, 2]), ids=tf.constant([-1]), training=True)
    _, found = layer.staleness([0, -1], tf.ones([2, 2]))
    np.testing.assert_array_equal(found, [0, 1])


def test_what_is_not_finite_on_a_replica_is_left_out_on_all(two_replicas):
    """Two replicas of two rows each: a row of the second is not finite."""
    with two_replicas.scope():
        layer = CrossBatchMemory(6, width=1)

    def step():
        place = tf.cast(distribute.place(), tf.float32)
        rows = tf.stack([10 * place + 1, 10 * place + 2])[:, tf.newaxis]
        is_bad = (place > 0) & (rows > 11)
        rows = tf.where(is_bad, np.nan, rows)
        layer(rows, ids=tf.cast([place, place], tf.int64), training=True)
        return layer(tf.zeros([0, 1])).embeddings

    found = tf.function(lambda: two_replicas.run(step))()
    for entries in two_replicas.experimental_local_results(found):
        assert entries.numpy().ravel().tolist() == [11, 2, 1]
    for count in two_replicas.experimental_local_results(layer.num_not_finite):
        assert int(count) == 1
