"""N replicas compute what one does with all rows (contract 4)."""

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from replica_training import (
    ITEMS,
    RULES,
    SHARING,
    USERS,
    D,
    M,
    all_rules,
    check,
    compare,
    everything,
    train,
    train_alone,
)

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import (
    CrossBatchMemory,
    MixedLogQ,
    ScaledLogQ,
    StaticFrequency,
    StreamingFrequency,
)
from tfrs_negatives.losses import FalseNegativeFilter, SampledSigmoid
from tfrs_negatives.tasks import Retrieval


@pytest.mark.slow(reason="says once more what test_everything_on_two says")
@pytest.mark.parametrize("rule", RULES)
def test_rules(two_replicas, rule):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            remove_accidental_hits=True,
            mask_shared_positives=rule in SHARING,
            global_negatives=True,
        ),
        call=RULES[rule],
        extras=rule != "weights",
    )


@pytest.mark.slow(reason="the largest graph; each rule has a test of its own")
def test_everything_on_two(two_replicas):
    check(two_replicas, 2, make_task=everything, call=all_rules, extras=True)


@pytest.mark.slow(reason="trains on several replicas, a trace for each")
def test_everything_on_four(four_replicas):
    check(four_replicas, 4, make_task=everything, call=all_rules, extras=True)


def all_rules_on_columns(rows):
    given = all_rules(rows)
    # A row's own negatives are scored row by row.
    del given["negative_ids"], given["negative_mask"]
    return given


@pytest.mark.slow(reason="trains on several replicas, a trace for each")
def test_distinct_embeddings(two_replicas):
    """Each replica gives what is distinct among its rows."""
    options = {"make_task": everything, "call": all_rules_on_columns, "extras": True}
    expected = train_alone(**options)
    found = train(two_replicas, 2, repeats=True, **options)
    compare(found[0] + [found[1]], expected[0] + [expected[1]])


CORRECTIONS = {
    "count": (lambda: StreamingFrequency(64, num_hashes=2), "refined"),
    "hit": (lambda: StreamingFrequency(ITEMS, mode="hit", dense=True), "outside"),
    "published start": (lambda: StreamingFrequency(64, initial_gap=99.0), "negatives"),
}


@pytest.mark.parametrize("correction", some_of(CORRECTIONS, ["count"]))
def test_log_q(two_replicas, correction):
    make, positive = CORRECTIONS[correction]
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            positive=positive, sampling_correction=make(), global_negatives=True
        ),
    )


def test_sizes_of_a_mixture_are_of_one_replica(two_replicas):
    def make(size):
        return lambda: Retrieval(
            sampling_correction=MixedLogQ(
                [StreamingFrequency(ITEMS, dense=True), -np.log(ITEMS)], [size]
            ),
            global_negatives=True,
        )

    expected = train_alone(make_task=make(4), extras=True)
    found = train(two_replicas, 2, make_task=make(2), extras=True)
    compare(found[0] + [found[1]], expected[0] + [expected[1]])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "none"])
def test_reductions(two_replicas, reduction):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(reduction=reduction, global_negatives=True),
        call=RULES["weights"],
    )


LOSSES = {
    "hardest": lambda: {"num_hard_negatives": 3},
    "sigmoid": lambda: {"loss": SampledSigmoid(0.7, negative_weight=3.0)},
    "Keras": lambda: {
        "loss": keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction="sum_over_batch_size"
        )
    },
}


@pytest.mark.parametrize("loss", some_of(LOSSES, ["hardest"]))
def test_other_losses(two_replicas, loss):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            **LOSSES[loss](), remove_accidental_hits=True, global_negatives=True
        ),
        call=RULES["user"],
    )


RNG = np.random.default_rng(4)
GUIDE = [RNG.normal(size=(n, 2)).astype("float32") for n in (USERS, ITEMS)]
GUIDES = {
    "towers": lambda rows: {},
    "another": lambda rows: {
        "guide_query_embeddings": tf.gather(GUIDE[0], rows["user"]),
        "guide_candidate_embeddings": tf.gather(GUIDE[1], rows["item"]),
    },
}


@pytest.mark.parametrize("guide", some_of(GUIDES, ["another"]))
def test_false_negatives(two_replicas, guide):
    check(
        two_replicas,
        2,
        make_task=lambda: Retrieval(
            false_negative_filter=FalseNegativeFilter(margin=0.1),
            global_negatives=True,
        ),
        call=GUIDES[guide],
    )


@pytest.mark.slow(reason="local losses are fast, and the state of the global batch")
def test_local_negatives_differ(two_replicas):
    """What global negatives are for: without them two replicas are not one.

    The estimator and the queue are of the global batch all the same.
    """

    def make():
        return Retrieval(
            sampling_correction=StreamingFrequency(ITEMS, dense=True),
            memory=CrossBatchMemory(30, D, num_keys=1, warm_up_steps=9),
        )

    expected, expected_state = train_alone(make_task=make, call=RULES["user"])
    found, state = train(two_replicas, 2, make_task=make, call=RULES["user"])
    assert found[0][0] < 0.9 * expected[0][0]
    followed = [
        np.allclose(one, other)
        for one, other in zip(state[2:], expected_state[2:], strict=True)
    ]
    # All but the queue's embeddings, which follow the loss.
    assert len(followed) - sum(followed) == 1


@pytest.mark.parametrize("layer", ["frequency", "memory", "schedule"])
def test_state_made_outside_of_the_scope_is_refused(two_replicas, layer):
    """Each replica would count its own writes to the same variables."""
    options = {
        "frequency": {"sampling_correction": StreamingFrequency(9)},
        "memory": {"memory": CrossBatchMemory(9, D)},
        "schedule": {
            "sampling_correction": ScaledLogQ(
                StaticFrequency([1, 2]),
                keras.optimizers.schedules.PolynomialDecay(0.2, 4.0, 1.0),
            )
        },
    }[layer]
    task = Retrieval(**options)

    def step():
        return task(
            tf.ones([2, D]), tf.ones([2, D]), candidate_ids=[0, 1], training=True
        )

    with pytest.raises(ValueError, match="outside of the strategy's scope"):
        two_replicas.run(step)


def test_bfloat16_is_near(two_replicas):
    """Three digits of embeddings, and the loss within a percent."""
    options = {"make_task": lambda: Retrieval(global_negatives=True)}
    expected, _ = train_alone(**options)
    options["make_task"] = lambda: Retrieval(
        global_negatives=True, gather_dtype="bfloat16"
    )
    found, _ = train(two_replicas, 2, **options)
    # Nearer it would be if no digit were lost.
    assert not np.allclose(found[0][0], expected[0][0], rtol=1e-6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-2)


def test_score_mask_is_of_one_replica(two_replicas):
    task = Retrieval(global_negatives=True)

    def step():
        return task(tf.ones([2, D]), tf.ones([2, D]), score_mask=tf.ones([2, 2], bool))

    with pytest.raises(ValueError, match="score_mask.*this replica's"):
        two_replicas.run(step)
    step()  # Alone it is the only one.


def test_one_replica_is_the_plain_task():
    embeddings = np.random.default_rng(0).normal(size=(2, 4, D))
    np.testing.assert_array_equal(
        Retrieval(global_negatives=True)(*embeddings), Retrieval()(*embeddings)
    )


def test_rebuilt_from_its_config():
    task = Retrieval(global_negatives=True, gather_dtype="bfloat16")
    config = Retrieval.from_config(task.get_config()).get_config()
    assert config["global_negatives"] and config["gather_dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="gather_dtype"):
        Retrieval(gather_dtype="int8")


@pytest.mark.parametrize(
    "extra",
    [
        (),
        pytest.param(
            ("log_q",),
            marks=pytest.mark.slow(
                reason="trains on several replicas, a trace for each"
            ),
        ),
        pytest.param(
            ("log_q", "hard"),
            marks=pytest.mark.slow(
                reason="trains on several replicas, a trace for each"
            ),
        ),
    ],
)
def test_a_replica_without_rows_or_columns(two_replicas, extra):
    """With negatives of its own batch alone, it adds nothing and breaks nothing."""
    rng = np.random.default_rng(0)

    shapes = {"q": [D], "c": [D], "log_q": [], "hard": [M, D], "hard_log_q": [M]}
    rows = {
        name: rng.normal(size=[5, *shape]).astype("float32")
        for name, shape in shapes.items()
    }

    def loss(part):
        given = {}
        if "log_q" in extra:
            given["candidate_log_q"] = -tf.abs(part["log_q"])
        if "hard" in extra:
            given["negative_embeddings"] = part["hard"]
            given["negative_log_q"] = part["hard_log_q"]
        return Retrieval(temperature=0.5)(part["q"], part["c"], **given)

    # Two batches: two rows each, then one row and none.
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(4)
    run = tf.function(lambda part: two_replicas.run(loss, args=[part]))
    found = [
        [float(x) for x in two_replicas.experimental_local_results(run(batch))]
        for batch in two_replicas.experimental_distribute_dataset(batches)
    ]
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)]
    expected = [float(loss({k: v[part] for k, v in rows.items()})) for part in parts]
    np.testing.assert_allclose(sum(found, []), [*expected, 0], rtol=1e-5)
