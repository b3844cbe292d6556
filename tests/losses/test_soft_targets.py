"""Several targets a row: cross-entropy against a distribution over columns."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import numeric_gradient
from softmax_cases import B, C, D, everything_on, key_dropped, key_rules

from tfrs_negatives.losses import SampledSigmoid, SampledSoftmax

M = 4  # Targets a row.
N = 3  # Negatives of single rows.

# Row 0 names a column twice, row 1 its own positive, row 2 a negative of its own
# (behind the C columns), row 3 its own positive alone; weights of 0 hold nothing.
COLUMNS = np.array(
    [[2, 7, 2, 0], [1, 6, 0, 3], [C + 1, 4, C, 5], [3, 3, 3, 3], [0, 1, 2, 7]]
)
WEIGHTS = np.array(
    [[1, 2, 3, 0], [0.5, 1, 0, 0], [1, 0, 2, 7], [1, 0, 0, 0], [1, 1, 1, 1]], float
)


def oracle(
    queries,
    candidates,
    negatives,
    *,
    columns=COLUMNS,
    weights=WEIGHTS,
    share=0.5,
    temperature=1.0,
    positive="all",
    log_q=None,
    negative_log_q=None,
    dropped=None,
    negative_mask=None,
    num_hard_negatives=None,
    rho=1.0,
):
    """[B] losses: -sum_k target(k) log softmax(k), by loops.

    Outside, the sum is rho times that over the negatives alone.
    """
    losses = []
    for i, query in enumerate(queries):
        everything = [*candidates, *negatives[i]]
        heads = np.atleast_2d(query)
        raw = np.array([max(h @ c for h in heads) for c in everything]) / temperature
        target = np.zeros(len(raw))
        is_target = np.zeros(len(raw), bool)
        for column, weight in zip(columns[i], weights[i], strict=True):
            if weight > 0:
                target[column] += share * weight / sum(weights[i])
                is_target[column] = True
        target[i] += 1 - share
        is_target[i] = True
        scores = raw.copy()
        if log_q is not None:
            all_log_q = np.concatenate([log_q, negative_log_q[i]])
            corrected = ~is_target | (positive == "all")
            scores = scores - np.where(corrected, all_log_q, 0.0)
        rows_dropped = np.zeros(len(raw), bool)
        if dropped is not None:
            rows_dropped[: len(candidates)] = dropped[i]
        if negative_mask is not None:
            rows_dropped[len(candidates) :] = ~negative_mask[i]
        kept = [k for k in range(len(raw)) if not rows_dropped[k] and not is_target[k]]
        kept.sort(key=lambda k: -scores[k])
        if num_hard_negatives:
            kept = kept[:num_hard_negatives]
        if positive == "outside":
            log_sum = rho * np.logaddexp.reduce(scores[kept]) if kept else target @ raw
        else:
            kept += list(np.flatnonzero(is_target))
            log_sum = np.logaddexp.reduce(scores[kept])
        losses.append(log_sum - target[is_target] @ scores[is_target])
    return np.array(losses)


def with_negatives(batch):
    rng = np.random.default_rng(3)
    return {
        "negatives": rng.normal(size=(B, N, D)),
        "negative_log_q": np.log(rng.uniform(0.01, 0.6, (B, N))),
        "negative_mask": np.array([[True, False, True]] * B),
    }


def computed(loss, queries, candidates, negatives, temperature=None, **kwargs):
    """The value and its gradients in all that is given."""
    given = [tf.constant(x) for x in (queries, candidates, negatives)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(*given[:2], negative_embeddings=given[2], **kwargs)
    inputs = given if temperature is None else [*given, temperature]
    return value, tape.gradient(value, inputs)


def compiled(loss, queries, candidates, negatives, **kwargs):
    """The same under XLA."""

    @tf.function(jit_compile=True, autograph=False)
    def step(queries, candidates, negatives):
        given = [queries, candidates, negatives]
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = loss(queries, candidates, negative_embeddings=negatives, **kwargs)
        return value, tape.gradient(value, given)

    return step(*map(tf.constant, (queries, candidates, negatives)))


@pytest.mark.parametrize(
    "run, positive, queries, num_hard_negatives, masked, row_block",
    grid(
        [computed, compiled],
        ["all", "negatives", "outside"],
        ["queries", "heads"],
        [None, 2],
        [False, True],
        [None, 2],
        rounds=2,
    ),
)
@pytest.mark.parametrize("corrected", [False, True])
def test_equals_the_cross_entropy_by_loops(
    batch, run, positive, queries, num_hard_negatives, masked, row_block, corrected
):
    own = with_negatives(batch)
    options = {"num_hard_negatives": num_hard_negatives, "positive": positive}
    rho = 1.3 if positive == "outside" else None
    loss = SampledSoftmax(
        0.7, **options, row_block=row_block, negative_weight=rho, target_share=0.3
    )
    given, expected = {}, {"share": 0.3, "temperature": 0.7, "rho": rho, **options}
    if corrected:
        given = {
            "candidate_log_q": batch["log_q"],
            "negative_log_q": own["negative_log_q"],
        }
        expected |= {"log_q": batch["log_q"], "negative_log_q": own["negative_log_q"]}
    if masked:
        # Row 0's target, column 2, has its key; row 1 would lose its target 6.
        mask = np.ones((B, C), bool)
        mask[1, 6] = mask[2, 7] = False
        mask[3] = False  # A row without negatives among the columns,
        mask[3, 3] = True
        given |= {"rules": key_rules(batch), "negative_mask": own["negative_mask"]}
        own["negative_mask"][3] = False  # nor of its own.
        given["score_mask"] = tf.constant(mask)
        expected["dropped"] = key_dropped(batch) | ~mask
        expected["negative_mask"] = own["negative_mask"]
    given |= {"target_columns": COLUMNS, "target_weights": WEIGHTS}
    given["sample_weight"] = batch["weights"]
    inputs = [batch[queries], batch["candidates"], own["negatives"]]
    value, gradients = run(loss, *inputs, **given)

    def total(*inputs):
        return oracle(*inputs, **expected) @ batch["weights"]

    np.testing.assert_allclose(value, total(*inputs), rtol=1e-9)
    for place, gradient in enumerate(gradients):
        numeric = numeric_gradient(
            lambda x, place=place: total(*inputs[:place], x, *inputs[place + 1 :]),
            inputs[place],
        )
        np.testing.assert_allclose(gradient, numeric, atol=1e-7)


def test_the_temperature_is_trained(batch):
    own = with_negatives(batch)["negatives"]
    temperature = tf.Variable(0.7, dtype=tf.float64)
    inputs = [batch["queries"], batch["candidates"], own]
    _, (*_, gradient) = computed(
        SampledSoftmax(temperature),
        *inputs,
        temperature,
        target_columns=COLUMNS,
        target_weights=WEIGHTS,
    )
    numeric = numeric_gradient(
        lambda t: oracle(*inputs, temperature=t[0]).sum(), np.array([0.7])
    )
    np.testing.assert_allclose(gradient, numeric[0], rtol=1e-7)


@pytest.mark.parametrize("reduction", ["none", "mean_with_sample_weight"])
def test_reductions(batch, reduction):
    own = with_negatives(batch)["negatives"]
    inputs = [batch["queries"], batch["candidates"], own]
    value, gradients = computed(
        SampledSoftmax(reduction=reduction, row_block=2),
        *inputs,
        target_columns=COLUMNS,
        target_weights=WEIGHTS,
        sample_weight=batch["weights"],
    )
    rows = batch["weights"] * oracle(*inputs)
    divisor = 1 if reduction == "none" else batch["weights"].sum()
    expected = rows if reduction == "none" else rows.sum() / divisor
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    numeric = numeric_gradient(
        lambda x: oracle(x, *inputs[1:]) @ batch["weights"] / divisor, inputs[0]
    )
    np.testing.assert_allclose(gradients[0], numeric, atol=1e-7)


def plain(batch, loss, **kwargs):
    queries, candidates = map(tf.constant, (batch["queries"], batch["candidates"]))
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        value = loss(queries, candidates, **everything_on(batch), **kwargs)
    return [value, *tape.gradient(value, [queries, candidates])]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("num_hard_negatives", [None, 3])
def test_the_own_positive_as_target_changes_nothing(batch, share, num_hard_negatives):
    loss = SampledSoftmax(0.5, "negatives", num_hard_negatives, target_share=share)
    own = np.arange(B)[:, np.newaxis]
    for found, expected in zip(
        plain(batch, loss, target_columns=own), plain(batch, loss), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_the_share_of_targets_may_be_all_or_follow_a_variable(batch):
    share = tf.Variable(0.0, trainable=False)
    given = {"target_columns": COLUMNS % C, "target_weights": WEIGHTS}
    for value in (0.0, 0.25, 1.0):
        share.assign(value)
        found = plain(batch, SampledSoftmax(target_share=share), **given)
        expected = plain(batch, SampledSoftmax(target_share=value), **given)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    share.assign(1.5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="stay from 0 to 1"):
        plain(batch, SampledSoftmax(target_share=share), **given)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 3e38])
def test_weights_have_no_scale(batch, scale):
    queries, candidates = (
        tf.constant(batch[name], tf.float32) for name in ("queries", "candidates")
    )
    found, expected = (
        SampledSoftmax()(
            queries,
            candidates,
            target_columns=COLUMNS % C,
            target_weights=tf.constant(weights, tf.float32),
        )
        for weights in (np.minimum(WEIGHTS, 1) * scale, np.minimum(WEIGHTS, 1))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_targets_of_all_columns_are_label_smoothing(batch):
    """(1 - S) of the weight, and S / C for each column (Szegedy et al. 2016)."""
    everyone = np.tile(np.arange(C), [B, 1])
    found = SampledSoftmax(target_share=0.1)(
        batch["queries"], batch["candidates"], target_columns=everyone
    )
    scores = batch["queries"] @ batch["candidates"].T
    labels = 0.9 * np.eye(B, C) + 0.1 / C
    log_p = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(found, -np.sum(labels * log_p), rtol=1e-12)


def test_float32_is_as_exact_with_targets_far_behind(batch):
    """Scores as of a low temperature: the positive is far from its targets."""
    inputs = [batch["queries"], batch["candidates"], np.zeros((B, 0, D))]
    columns, temperature = COLUMNS % C, 0.05
    expected = oracle(*inputs, columns=columns, temperature=temperature)
    found = SampledSoftmax(temperature, reduction="none")(
        *(tf.constant(x, tf.float32) for x in inputs[:2]),
        target_columns=columns,
        target_weights=WEIGHTS,
    )
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"target_weights": WEIGHTS}, ValueError, "expected `target_columns`"),
        ({"target_columns": COLUMNS + 0.5}, ValueError, "must be integers"),
        ({"target_columns": COLUMNS[:3]}, ValueError, "size 5 along axis 0"),
        ({"target_columns": COLUMNS[0]}, ValueError, "must have rank 2"),
        ({"target_columns": COLUMNS[:, :0]}, ValueError, "at least one place a row"),
        (
            {"target_columns": COLUMNS % C, "target_weights": WEIGHTS[:, :2]},
            ValueError,
            "one weight for each target",
        ),
        (
            {"target_columns": COLUMNS % C, "target_weights": WEIGHTS > 0},
            ValueError,
            "must be numbers",
        ),
        (
            {"target_columns": COLUMNS % C, "target_weights": -WEIGHTS},
            tf.errors.InvalidArgumentError,
            "at least 0",
        ),
        (
            {"target_columns": COLUMNS % C, "target_weights": WEIGHTS * np.nan},
            tf.errors.InvalidArgumentError,
            "must be finite",
        ),
        (
            {"target_columns": COLUMNS % C, "target_weights": WEIGHTS + np.inf},
            tf.errors.InvalidArgumentError,
            "must be finite",
        ),
        (
            {
                "target_columns": COLUMNS % C,
                "target_weights": WEIGHTS * [[1], [1], [0], [1], [1]],
            },
            tf.errors.InvalidArgumentError,
            r"all 0 in rows(.|\n)*2",
        ),
        (
            {"target_columns": COLUMNS},
            tf.errors.InvalidArgumentError,
            "number of columns",
        ),
        (
            {"target_columns": -1 - COLUMNS},
            tf.errors.InvalidArgumentError,
            "number of columns",
        ),
    ],
)
def test_bad_targets(batch, given, error, message):
    with pytest.raises(error, match=message):
        SampledSoftmax()(batch["queries"], batch["candidates"], **given)


def test_no_places_in_a_shape_known_at_run_time_alone(batch):
    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False
    )
    def loss(columns):
        return SampledSoftmax()(
            batch["queries"], batch["candidates"], target_columns=columns
        )

    assert np.isfinite(loss(tf.constant(COLUMNS % C, tf.int32)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one place"):
        loss(tf.zeros([B, 0], tf.int32))


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(ValueError, match="target_share"):
        SampledSoftmax(target_share=share)


def test_losses_without_targets_say_so(batch):
    given = [batch["queries"], batch["candidates"]]
    with pytest.raises(ValueError, match="use `SampledSoftmax`"):
        SampledSigmoid()(*given, target_columns=COLUMNS % C)
    with pytest.raises(ValueError, match="one positive"):
        SampledSoftmax(positive="refined")(
            *given, candidate_log_q=batch["log_q"], target_columns=COLUMNS % C
        )


def test_the_share_is_an_option():
    loss = SampledSoftmax(target_share=0.25)
    assert SampledSoftmax.from_config(loss.get_config()).target_share == 0.25
    assert "target_share=0.25" in repr(loss)
    assert SampledSoftmax().get_config()["target_share"] is None
