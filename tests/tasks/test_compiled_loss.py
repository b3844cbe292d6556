"""The task's `jit_compile`: what "auto" decides, and that compiling changes nothing."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import SampledSoftmax, fused_blocks
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval, compiled_loss

WIDTH = 4


@pytest.fixture
def compiled(monkeypatch):
    """Grows by one with each trace of the form that XLA compiles."""
    traces, run = [], fused_blocks.run

    def counted(*args):
        traces.append(1)
        return run(*args)

    monkeypatch.setattr(fused_blocks, "run", counted)
    return traces


@pytest.fixture
def on_a_gpu(monkeypatch):
    """TensorFlow's list of devices has a GPU; the function is still run by the CPU."""
    monkeypatch.setattr(compiled_loss, "placed_on_gpu", lambda: True)


def batch(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "queries": tf.constant(rng.normal(size=(rows, WIDTH)), tf.float32),
        "candidates": tf.constant(rng.normal(size=(rows + 3, WIDTH)), tf.float32),
        "ids": tf.constant(rng.integers(0, rows, rows + 3)),
        "users": tf.constant(rng.integers(0, rows, rows)),
    }


def step_of(task, **given):
    """A function of `batch`'s tensors, of any number of rows, to loss and gradients."""
    signature = [tf.TensorSpec([None, WIDTH])] * 2 + [
        tf.TensorSpec([None], tf.int64)
    ] * 2

    @tf.function(input_signature=signature)
    def step(queries, candidates, ids, users):
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            loss = task(
                queries,
                candidates,
                candidate_ids=ids,
                query_keys=users,
                training=True,
                **given,
            )
        trained = [queries, candidates, *task.trainable_variables]
        gradients = tape.gradient(loss, trained)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return lambda tensors: step(*tensors.values())


def assert_equal(found, expected):
    for one, other in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)


OPTIONS = [
    {"positive": "refined", "row_block": 5},
    {},
    {"num_hard_negatives": 3, "positive": "outside"},
    {"reduction": "sum_over_batch_size", "row_block": 4},
]


@pytest.mark.parametrize("options", some_of(OPTIONS, fast=OPTIONS[:1]))
def test_compiling_changes_nothing_whatever_the_size_of_a_batch(options, compiled):
    def task(jit_compile):
        return Retrieval(
            remove_accidental_hits=True,
            mask_shared_positives=True,
            temperature=tf.Variable(0.3),
            sampling_correction=StreamingFrequency(num_buckets=50),
            memory=CrossBatchMemory(20, WIDTH, num_keys=1),
            jit_compile=jit_compile,
            **options,
        )

    ours, plain = step_of(task(True)), step_of(task(False))
    # A last batch of other size, and then whole ones again.
    for seed, rows in enumerate([12, 12, 7, 12]):
        assert_equal(ours(batch(rows, seed)), plain(batch(rows, seed)))
    assert len(compiled) == 1


def test_negatives_of_single_rows():
    given = {
        "negative_embeddings": np.random.default_rng(0).normal(size=(6, 2, WIDTH)),
        "negative_ids": np.arange(12).reshape(6, 2),
    }
    given["negative_embeddings"] = given["negative_embeddings"].astype(np.float32)
    steps = [
        step_of(Retrieval(remove_accidental_hits=True, jit_compile=jit), **given)
        for jit in (True, False)
    ]
    assert_equal(*(step(batch(6)) for step in steps))


def test_auto_compiles_on_a_gpu(on_a_gpu, compiled):
    expected = step_of(Retrieval(jit_compile=False))(batch(6))
    assert not compiled
    assert_equal(step_of(Retrieval())(batch(6)), expected)
    assert compiled


def test_auto_leaves_the_plain_form_to_a_cpu(compiled):
    step_of(Retrieval())(batch(6))
    assert not compiled


def test_auto_compiles_nothing_on_several_replicas(on_a_gpu, compiled, two_replicas):
    task = Retrieval()
    given = [batch(6)["queries"]] * 2
    tf.function(lambda: two_replicas.run(task, args=given))()
    assert not compiled


@pytest.mark.parametrize("jit_compile", ["auto", True, False])
def test_a_call_that_is_not_traced_runs_as_it_is(on_a_gpu, compiled, jit_compile):
    Retrieval(jit_compile=jit_compile)(*list(batch(6).values())[:2])
    assert not compiled


def test_auto_compiles_nothing_that_xla_would_compile_anew(on_a_gpu, compiled):
    changes = Retrieval(num_hard_negatives=tf.Variable(2, trainable=False))
    step_of(changes)(batch(6))
    given = list(batch(6).values())[:2]
    tf.function(Retrieval(reduction="none"))(*given)
    lists = tf.ragged.constant([[1], [], [2, 3], [], [], [1]], dtype=tf.int64)
    step_of(Retrieval(), known_positive_ids=lists)(batch(6))
    assert not compiled
    # Lists of one length are known while tracing.
    step_of(Retrieval(), known_positive_ids=lists.to_tensor(-1))(batch(6))
    assert compiled


@pytest.mark.parametrize("repeated", ["query_rows", "candidate_rows"])
def test_auto_keeps_the_saving_of_repeats(repeated, on_a_gpu, compiled):
    rows = {repeated: tf.range({"query_rows": 6, "candidate_rows": 9}[repeated]) // 2}
    step_of(Retrieval(), **rows)(batch(6))
    assert not compiled
    step_of(Retrieval(jit_compile=True), **rows)(batch(6))
    assert compiled


def test_auto_leaves_shared_positives_to_the_plain_form(on_a_gpu, compiled):
    step_of(Retrieval(mask_shared_positives=True))(batch(6))
    assert not compiled


def test_repeats_are_gathered_where_xla_compiles(compiled):
    """It does not know how many are distinct."""
    rows = {"query_rows": tf.constant([0, 0, 1, 1, 2, 2])}
    steps = [
        step_of(Retrieval(jit_compile=jit_compile), **rows)
        for jit_compile in (True, False)
    ]
    given = batch(6)
    given["queries"] = given["queries"][:3]
    assert_equal(*([step(given) for step in steps]))
    assert len(compiled) == 1


@pytest.mark.parametrize("jit_compile", ["auto", True, False])
def test_a_step_that_is_compiled_as_a_whole(jit_compile, compiled):
    """What XLA compiles already is not compiled in it once more."""
    task = Retrieval(jit_compile=jit_compile)
    given = list(batch(6).values())[:2]
    graph = tf.function(task, jit_compile=True).get_concrete_function(*given).graph
    assert not [op for op in graph.get_operations() if "PartitionedCall" in op.type]
    assert len(compiled) == 1


def test_replicas_compute_what_one_would(two_replicas, compiled):
    given = batch(6)
    tower = tf.constant(
        np.random.default_rng(1).normal(size=(WIDTH, WIDTH)), tf.float32
    )

    def losses(jit_compile):
        task = Retrieval(
            remove_accidental_hits=True, global_negatives=True, jit_compile=jit_compile
        )

        @tf.function
        def step():
            def on_replica():
                place = tf.distribute.get_replica_context().replica_id_in_sync_group
                # Two rows and four.
                rows = tf.range(2 * place, 2 + 4 * place)
                queries = tf.gather(given["queries"], rows)
                with tf.GradientTape() as tape:
                    tape.watch(queries)
                    loss = task(
                        queries @ tower,
                        tf.gather(given["candidates"], rows),
                        candidate_ids=tf.gather(given["ids"], rows),
                        query_keys=tf.gather(given["users"], rows),
                    )
                return loss, tape.gradient(loss, queries)

            return two_replicas.run(on_replica)

        return tf.nest.map_structure(two_replicas.experimental_local_results, step())

    assert_equal(losses(True), losses(False))
    assert len(compiled) == 2


class TwoTower(Model):
    def __init__(self, task):
        super().__init__()
        self.queries = keras.layers.Dense(WIDTH)
        self.items = keras.layers.Dense(WIDTH)
        self.task = task

    def compute_loss(self, features, training=False):
        return self.task(
            self.queries(features["query"]),
            self.items(features["item"]),
            candidate_ids=features["id"],
            training=training,
        )


@pytest.mark.slow(reason="fits two models; smaller batches are fast without `fit`")
@pytest.mark.parametrize("jit_compile", [True, "auto"])
@pytest.mark.parametrize("of_model", [False, True])
def test_fit_with_a_smaller_last_batch(jit_compile, of_model, compiled):
    def history(jit_compile, of_model):
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        rows = {
            "query": rng.normal(size=(10, 3)).astype(np.float32),
            "item": rng.normal(size=(10, 3)).astype(np.float32),
            "id": rng.integers(0, 6, 10),
        }
        task = Retrieval(remove_accidental_hits=True, jit_compile=jit_compile)
        model = TwoTower(task)
        model.compile(
            optimizer=keras.optimizers.SGD(0.1), jit_compile=of_model, run_eagerly=False
        )
        data = tf.data.Dataset.from_tensor_slices(rows).batch(4)
        return model.fit(data, epochs=2, verbose=0).history["loss"]

    expected = history(False, False)
    assert not compiled
    np.testing.assert_allclose(history(jit_compile, of_model), expected, rtol=1e-4)
    assert bool(compiled) == (of_model or jit_compile is True)


def test_saved_models(tmp_path):
    class Trained(tf.Module):
        def __init__(self):
            self.task = Retrieval(jit_compile=True)

        @tf.function(input_signature=[tf.TensorSpec([None, WIDTH])] * 2)
        def loss(self, queries, candidates):
            return self.task(queries, candidates)

    given = list(batch(6).values())[:2]
    module = Trained()
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.loss(*given), module.loss(*given), rtol=1e-6)


@pytest.mark.parametrize("jit_compile", ["auto", True, False])
def test_the_choice_is_kept_by_the_config(jit_compile):
    task = Retrieval(jit_compile=jit_compile)
    assert task.get_config()["jit_compile"] is jit_compile
    assert Retrieval.from_config(task.get_config())._options.jit_compile is jit_compile
    assert (repr(task) == "Retrieval()") == (jit_compile == "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jit_compile": "gpu"}, "`jit_compile` must be one of.*received 'gpu'"),
        ({"jit_compile": None}, "`jit_compile` must be one of.*received None"),
        (
            {
                "jit_compile": True,
                "loss": keras.losses.CategoricalCrossentropy(from_logits=True),
            },
            "losses of this package.*received a Keras loss.*model.compile",
        ),
        (
            {"jit_compile": True, "reduction": "none"},
            "scalars.*received 'none'.*model.compile",
        ),
        (
            {"jit_compile": True, "num_hard_negatives": tf.Variable(2)},
            "int or None, received a variable",
        ),
        (
            {
                "jit_compile": True,
                "loss": SampledSoftmax(num_hard_negatives=tf.Variable(2)),
            },
            "int or None, received a variable",
        ),
    ],
)
def test_bad_choices(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)
