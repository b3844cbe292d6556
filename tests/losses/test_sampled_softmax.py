import itertools

import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs, numeric_gradient, row_losses

from tfrs_negatives.losses import SampledSoftmax, rules
from tfrs_negatives.losses.block_sizes import partition_of

B, C, D = 5, 8, 3


@pytest.fixture
def batch():
    rng = np.random.default_rng(7)
    return {
        "queries": rng.normal(size=(B, D)),
        "heads": rng.normal(size=(B, 2, D)),
        "candidates": rng.normal(size=(C, D)),
        "log_q": np.log(rng.uniform(0.01, 0.6, C)),
        "weights": rng.uniform(0.2, 2.0, B),
        "keys": np.array([0, 1, 0, 2, 1]),
        "ids": np.array([3, 4, 5, 3, 6, 4, 7, 3]),
    }


def key_rules(batch):
    keys = tf.constant(batch["keys"], tf.int64)
    ids = tf.constant(batch["ids"], tf.int64)
    return [
        rules.same_key(keys, rules.SortedColumns(keys, C)),
        rules.same_key(ids[:B], rules.SortedColumns(ids, C)),
    ]


def key_dropped(batch):
    keys = list(batch["keys"])
    return dropped_pairs(
        B,
        C,
        ids=batch["ids"],
        accidental_hits=True,
        row_keys=[keys],
        column_keys=[keys + [None] * (C - B)],
    )


def value_and_gradients(loss, queries, candidates, **kwargs):
    queries, candidates = (
        tf.convert_to_tensor(queries),
        tf.convert_to_tensor(candidates),
    )
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        value = loss(queries, candidates, **kwargs)
    return value, *tape.gradient(value, [queries, candidates])


@pytest.mark.parametrize("row_block", [None, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_hard_negatives", [None, 2])
@pytest.mark.parametrize("queries", ["queries", "heads"])
@pytest.mark.parametrize("positive", ["all", "negatives", "refined"])
def test_value_and_gradients_equal_the_oracle(
    batch, positive, queries, num_hard_negatives, masked, row_block
):
    options = {
        "temperature": 0.7,
        "positive": positive,
        "num_hard_negatives": num_hard_negatives,
    }

    def oracle(q, c):
        return row_losses(
            q,
            c,
            log_q=batch["log_q"],
            dropped=key_dropped(batch) if masked else None,
            **options,
        )

    loss = SampledSoftmax(row_block=row_block, **options)
    value, d_queries, d_candidates = value_and_gradients(
        loss,
        batch[queries],
        batch["candidates"],
        candidate_log_q=batch["log_q"],
        rules=key_rules(batch) if masked else (),
        sample_weight=batch["weights"],
    )
    q, c, w = batch[queries], batch["candidates"], batch["weights"]
    np.testing.assert_allclose(value, w @ oracle(q, c), rtol=1e-10)
    if positive == "refined":
        return  # Its factor 1 - P is held constant: see the test below.
    np.testing.assert_allclose(
        d_queries, numeric_gradient(lambda x: w @ oracle(x, c), q), atol=1e-7
    )
    np.testing.assert_allclose(
        d_candidates, numeric_gradient(lambda x: w @ oracle(q, x), c), atol=1e-7
    )


def test_refined_holds_its_factor_constant(batch):
    q, c, log_q = batch["queries"], batch["candidates"], batch["log_q"]

    def factors_and_terms(q):
        factors, terms = [], []
        for i in range(B):
            scores = c @ q[i]
            others = [k for k in range(C) if k != i]
            log_z = np.logaddexp.reduce(scores[others] - log_q[others])
            log_z += np.log(1 - np.exp(log_q[i]))
            mean = np.exp(log_z) / len(others)
            factors.append(1 - np.exp(scores[i]) / (np.exp(scores[i]) + mean))
            terms.append(-(scores[i] - log_z))
        return np.array(factors), np.array(terms)

    held, _ = factors_and_terms(q)
    expected = numeric_gradient(lambda x: held @ factors_and_terms(x)[1], q)
    _, d_queries, _ = value_and_gradients(
        SampledSoftmax(positive="refined"), q, c, candidate_log_q=log_q
    )
    np.testing.assert_allclose(d_queries, expected, atol=1e-7)


def test_masking_is_deleting(batch):
    """A dropped column changes nothing and gets no gradient at all."""
    for positive, hard in itertools.product(("all", "negatives", "refined"), (None, 2)):
        loss = SampledSoftmax(0.5, positive, hard)
        value, d_queries, d_candidates = value_and_gradients(
            loss,
            batch["queries"],
            batch["candidates"],
            candidate_log_q=batch["log_q"],
            rules=key_rules(batch),
        )
        total, d_columns = 0.0, np.zeros((C, D))
        for i in range(B):
            dropped = key_dropped(batch)[i]
            kept = [i, *(k for k in range(C) if k != i and not dropped[k])]
            row = value_and_gradients(
                loss,
                batch["queries"][i : i + 1],
                batch["candidates"][kept],
                candidate_log_q=batch["log_q"][kept],
            )
            total += row[0]
            np.testing.assert_allclose(d_queries[i], row[1][0], rtol=1e-9)
            np.add.at(d_columns, kept, row[2].numpy())
        np.testing.assert_allclose(value, total, rtol=1e-12)
        np.testing.assert_allclose(d_candidates, d_columns, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_gradient_of_a_dropped_column_is_exactly_zero(dtype):
    keys = tf.constant([1, 1, 1, 1], tf.int64)
    queries = tf.cast(tf.random.stateless_normal([4, 3], [1, 2]), dtype)
    candidates = tf.cast(tf.random.stateless_normal([6, 3], [3, 4]), dtype)
    mask = tf.concat([tf.ones([4, 4], tf.bool), tf.zeros([4, 2], tf.bool)], axis=1)
    value, d_queries, d_candidates = value_and_gradients(
        SampledSoftmax(),
        queries,
        candidates,
        rules=[rules.same_key(keys, rules.SortedColumns(keys, 6))],
        score_mask=mask,
    )
    # No row has a negative: no cost, and every gradient is zero, not nan.
    assert float(value) == 0.0
    assert d_queries.dtype == d_candidates.dtype == tf.as_dtype(dtype)
    assert not np.any(tf.cast(d_queries, tf.float32))
    assert not np.any(tf.cast(d_candidates, tf.float32))


@pytest.mark.parametrize("positive", ["all", "negatives", "refined"])
def test_rows_without_negatives_cost_nothing(positive):
    queries = np.array([[1.0, 2.0], [3.0, -1.0]])
    keys = tf.constant([5, 5], tf.int64)
    value, d_queries, d_candidates = value_and_gradients(
        SampledSoftmax(positive=positive),
        queries,
        queries[::-1].copy(),
        candidate_log_q=np.log([0.5, 0.5]),
        rules=[rules.same_key(keys, rules.SortedColumns(keys, 2))],
    )
    assert float(value) == 0.0
    assert not np.any(d_queries) and not np.any(d_candidates)


def test_a_rule_never_drops_the_positive(batch):
    everything = tf.zeros([C], tf.int64)
    rule = rules.same_key(everything[:B], rules.SortedColumns(everything, C))
    value, *_ = value_and_gradients(
        SampledSoftmax(reduction="none"),
        batch["queries"],
        batch["candidates"],
        rules=[rule, rule],
    )
    np.testing.assert_array_equal(value, np.zeros(B))


def test_order_of_extra_columns_is_moot(batch):
    order = np.array([0, 1, 2, 3, 4, 7, 5, 6])
    loss = SampledSoftmax()
    plain = loss(batch["queries"], batch["candidates"], candidate_log_q=batch["log_q"])
    permuted = loss(
        batch["queries"],
        batch["candidates"][order],
        candidate_log_q=batch["log_q"][order],
    )
    np.testing.assert_allclose(plain, permuted, rtol=1e-12)


def test_constant_q_is_no_correction(batch):
    constant = np.full(C, np.log(0.125))
    args = batch["queries"], batch["candidates"]
    np.testing.assert_allclose(
        SampledSoftmax()(*args, candidate_log_q=constant),
        SampledSoftmax()(*args),
        rtol=1e-12,
    )


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k", [0, -1, C - 1, C, 100])
def test_all_negatives_as_hard_negatives_is_no_mining(batch, k, masked, jit_compile):
    """Also where rules leave a row fewer negatives than are to be kept."""

    @tf.function(jit_compile=jit_compile)
    def run(loss):
        rules = key_rules(batch) if masked else ()
        return value_and_gradients(
            loss, batch["queries"], batch["candidates"], rules=rules
        )

    mined, plain = run(SampledSoftmax(num_hard_negatives=k)), run(SampledSoftmax())
    for ours, expected in zip(mined, plain, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("row_block", [1, 2, 3, 5, 100])
def test_blocks_change_nothing(batch, row_block):
    def run(loss):
        return value_and_gradients(
            loss,
            batch["queries"],
            batch["candidates"],
            candidate_log_q=batch["log_q"],
            rules=key_rules(batch),
            score_mask=np.eye(B, C, dtype=bool) | (batch["ids"] > 3),
            sample_weight=batch["weights"],
        )

    blocks = run(SampledSoftmax(row_block=row_block))
    for ours, expected in zip(blocks, run(SampledSoftmax()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "columns", "num_blocks", "overlap"),
    [
        ([4096, 2], 4096, 8, True),  # 2 million scores a block
        ([8192, 2], 16384, 32, True),  # 256 rows a block
        ([8193, 2], 16384, 33, True),
        ([8192, 2], 32768, 37, False),  # 7 million scores a block
        ([8192, 2], 65536, 74, False),
        ([8192, 2], 131072, 74, False),  # 112 rows a block
        ([4096, 8, 2], 4096, 64, True),  # each head has scores
        ([10, 2], 3, 1, True),
    ],
)
def test_automatic_blocks_follow_the_columns(rows, columns, num_blocks, overlap):
    partition = partition_of(tf.zeros(rows), tf.zeros([columns, 2]))
    assert int(partition.num_blocks) == num_blocks
    assert bool(partition.overlap) == overlap


def test_eager_equals_graph_and_traces_once(batch):
    loss = SampledSoftmax(temperature=0.3, row_block=2)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, D], tf.float64)] * 2)
    def step(queries, candidates):
        traces.append(1)
        return value_and_gradients(loss, queries, candidates)

    for size in (B, 3, 1):
        queries, candidates = batch["queries"][:size], batch["candidates"]
        eager = value_and_gradients(loss, queries, candidates)
        for ours, expected in zip(step(queries, candidates), eager, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "reduction, expected",
    [
        ("sum", lambda losses, w: w @ losses),
        ("sum_over_batch_size", lambda losses, w: w @ losses / B),
        ("mean_with_sample_weight", lambda losses, w: w @ losses / w.sum()),
        ("none", lambda losses, w: w * losses),
    ],
)
def test_reductions(batch, reduction, expected):
    q, c, w = batch["queries"], batch["candidates"], batch["weights"]
    value, d_queries, _ = value_and_gradients(
        SampledSoftmax(reduction=reduction, row_block=2), q, c, sample_weight=w
    )
    np.testing.assert_allclose(value, expected(row_losses(q, c), w), rtol=1e-10)
    np.testing.assert_allclose(
        d_queries,
        numeric_gradient(lambda x: np.sum(expected(row_losses(x, c), w)), q),
        atol=1e-7,
    )


def test_unreduced_losses_take_any_weighting(batch):
    """Gradients of `reduction="none"` follow what is done with the rows."""
    q = tf.constant(batch["queries"])
    with tf.GradientTape() as tape:
        tape.watch(q)
        losses = SampledSoftmax(reduction="none")(q, batch["candidates"])
        value = tf.reduce_sum(losses**2)
    expected = numeric_gradient(
        lambda x: np.sum(row_losses(x, batch["candidates"]) ** 2), batch["queries"]
    )
    np.testing.assert_allclose(tape.gradient(value, q), expected, atol=1e-6)


def test_weights_have_gradients(batch):
    weights = tf.constant(batch["weights"])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        value = SampledSoftmax()(
            batch["queries"], batch["candidates"], sample_weight=weights
        )
    np.testing.assert_allclose(
        tape.gradient(value, weights),
        row_losses(batch["queries"], batch["candidates"]),
        rtol=1e-10,
    )


def test_temperature_can_be_trained(batch):
    temperature = tf.Variable(0.4, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = SampledSoftmax(temperature)(batch["queries"], batch["candidates"])
    expected = numeric_gradient(
        lambda t: row_losses(
            batch["queries"], batch["candidates"], temperature=float(t[0])
        ).sum(),
        [0.4],
    )
    np.testing.assert_allclose(
        tape.gradient(value, temperature), expected[0], rtol=1e-6
    )


def test_no_gradient_reaches_log_q(batch):
    log_q = tf.constant(batch["log_q"])
    with tf.GradientTape() as tape:
        tape.watch(log_q)
        value = SampledSoftmax()(
            batch["queries"], batch["candidates"], candidate_log_q=log_q
        )
    assert tape.gradient(value, log_q) is None


def test_second_order_gradients_are_refused(batch):
    q = tf.constant(batch["queries"])
    with tf.GradientTape() as outer:
        outer.watch(q)
        with tf.GradientTape() as inner:
            inner.watch(q)
            value = SampledSoftmax()(q, batch["candidates"])
        first = inner.gradient(value, q)
    with pytest.raises(LookupError, match="second-order"):
        outer.gradient(first, q)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_embeddings_are_not_hidden(batch, bad):
    queries = batch["queries"].copy()
    queries[1, 0] = bad
    value = SampledSoftmax(reduction="none")(queries, batch["candidates"])
    assert not np.isfinite(value[1])
    assert np.all(np.isfinite(np.delete(value, 1)))
    log_q = batch["log_q"]
    refined = SampledSoftmax(positive="refined", reduction="none")
    value = refined(queries, batch["candidates"], candidate_log_q=log_q)
    assert not np.isfinite(value[1])


def test_large_scores_stay_exact():
    queries = np.array([[300.0, 0.0], [0.0, 300.0]], np.float32)
    candidates = np.array([[300.0, 0.0], [0.0, 300.0], [299.99, 0.0]], np.float32)
    value = SampledSoftmax(reduction="none")(queries, candidates)
    gap = 300.0 * (np.float64(np.float32(299.99)) - 300.0)
    # Products near 90,000 carry float32 rounding of about 0.008.
    np.testing.assert_allclose(value, [np.log1p(np.exp(gap)), 0.0], atol=0.01)


def test_half_precision_is_computed_in_float32(batch):
    for dtype in (tf.float16, tf.bfloat16):
        queries = tf.cast(batch["queries"], dtype)
        candidates = tf.cast(batch["candidates"], dtype)
        value = SampledSoftmax(temperature=0.01)(queries, candidates)
        assert value.dtype == tf.float32
        expected = row_losses(
            tf.cast(queries, tf.float64),
            tf.cast(candidates, tf.float64),
            temperature=0.01,
        ).sum()
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_rebuilt_from_its_config(batch):
    loss = SampledSoftmax(0.3, "negatives", 3, "sum_over_batch_size", 2)
    rebuilt = SampledSoftmax.from_config(loss.get_config())
    args = batch["queries"], batch["candidates"]
    assert rebuilt.get_config() == loss.get_config()
    np.testing.assert_array_equal(
        rebuilt(*args, candidate_log_q=batch["log_q"]),
        loss(*args, candidate_log_q=batch["log_q"]),
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0.0}, "temperature.*positive.*0.0"),
        ({"temperature": -1}, "temperature.*positive"),
        ({"temperature": float("nan")}, "temperature.*positive"),
        ({"positive": "none"}, "positive.*all.*received 'none'"),
        ({"reduction": "average"}, "reduction.*received 'average'"),
        ({"row_block": 0}, "row_block.*at least 1.*0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SampledSoftmax(**options)


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        ((zeros(3), zeros(3, 2)), {}, "query_embeddings.*rank 2 or 3"),
        ((zeros(3, 2), zeros(6)), {}, "candidate_embeddings.*rank 2"),
        ((zeros(3, 2), zeros(3, 4)), {}, "candidate_embeddings.*size 2 along axis 1"),
        ((zeros(3, 2), zeros(2, 2)), {}, "at least as many rows.*3.*received 2"),
        ((np.zeros((3, 2), int), zeros(3, 2)), {}, "floating point.*int64"),
        ((zeros(3, 2), zeros(4, 2)), {"candidate_log_q": zeros(3) - 1}, "size 4"),
        ((zeros(3, 2), zeros(3, 2)), {"candidate_log_q": zeros(3, 1) - 1}, "rank 1"),
        ((zeros(3, 2), zeros(3, 2)), {"sample_weight": zeros(2)}, "weight.*size 3"),
        ((zeros(3, 2), zeros(3, 2)), {"sample_weight": zeros(3, 2)}, "weight.*size 1"),
        ((zeros(3, 2), zeros(3, 2)), {"score_mask": zeros(3, 3)}, "must be bool"),
        (
            (zeros(3, 2), zeros(4, 2)),
            {"score_mask": np.ones((3, 3), bool)},
            "score_mask.*size 4",
        ),
    ],
)
def test_bad_shapes(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        SampledSoftmax()(*args, **kwargs)


@pytest.mark.parametrize("log_q", [np.nan, np.inf, -np.inf])
def test_bad_log_q(log_q):
    log_q = np.array([-1.0, log_q, -1.0], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="log q must be finite"):
        SampledSoftmax()(zeros(3, 2), zeros(3, 2), candidate_log_q=log_q)


def test_refined_needs_a_q_below_one():
    refined = SampledSoftmax(positive="refined")
    with pytest.raises(ValueError, match="expected `candidate_log_q`"):
        refined(zeros(3, 2), zeros(3, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="q < 1"):
        refined(zeros(3, 2), zeros(3, 2), candidate_log_q=zeros(3))


def test_score_mask_hiding_a_positive_names_the_row():
    mask = np.ones((4, 5), bool)
    mask[2, 2] = False
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(?s)score_mask.*rows.*2$"
    ):
        SampledSoftmax()(zeros(4, 2), zeros(5, 2), score_mask=mask)


def test_sizes_are_checked_when_they_are_known_only_at_run_time():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2]),
            tf.TensorSpec([None, 2]),
            tf.TensorSpec([None]),
        ]
    )
    def loss(queries, candidates, log_q):
        return SampledSoftmax()(queries, candidates, candidate_log_q=log_q)

    assert float(loss(zeros(2, 2), zeros(2, 2), zeros(2) - 1)) > 0
    for args, message in (
        ((zeros(3, 2), zeros(2, 2), zeros(2)), "at least as many rows"),
        ((zeros(2, 2), zeros(2, 2), zeros(3)), "candidate_log_q"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            loss(*args)


def test_temperature_that_trains_below_zero_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="temperature"):
        SampledSoftmax(tf.Variable(-0.1))(zeros(2, 2), zeros(2, 2))


def everything_on(batch, dtype=tf.float64):
    """One of each rule, a mask, log q and weights."""
    keys = tf.constant(batch["keys"], tf.int64)
    ids = tf.constant(batch["ids"], tf.int64)
    known = tf.constant([[4, -1], [7, 3], [-1, -1], [5, 4], [3, 7]], tf.int64)
    starts = 2 * tf.range(B)
    by_id = rules.SortedColumns(ids, C)
    return {
        "rules": [
            *key_rules(batch),
            rules.shared_positives(keys, keys, ids[:B], by_id),
            rules.known_positives(
                tf.reshape(known, [-1]),
                starts,
                starts + 2,
                2,
                by_id,
            ),
        ],
        "score_mask": tf.constant(np.eye(B, C, dtype=bool) | (batch["ids"] != 6)),
        "candidate_log_q": tf.constant(batch["log_q"], dtype),
        "sample_weight": tf.constant(batch["weights"], dtype),
    }


OPTIONS = [
    {"positive": positive, "num_hard_negatives": hard}
    for positive in ("all", "negatives", "refined")
    for hard in (None, 2)
]


@pytest.mark.parametrize("queries", ["queries", "heads"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_xla_equals_eager(batch, options, queries):
    loss = SampledSoftmax(temperature=0.5, row_block=2, **options)

    @tf.function(jit_compile=True)
    def compiled(q, c):
        return value_and_gradients(loss, q, c, **everything_on(batch))

    args = batch[queries], batch["candidates"]
    eager = value_and_gradients(loss, *args, **everything_on(batch))
    for ours, expected in zip(compiled(*args), eager, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_heavy_collisions_change_nothing(batch, monkeypatch, share):
    """Listing the pairs and comparing the whole block drop the same pairs."""
    loss = SampledSoftmax(row_block=2)
    args = batch["queries"], batch["candidates"]
    usual = value_and_gradients(loss, *args, **everything_on(batch))
    monkeypatch.setattr(rules, "_MANY_PAIRS", share)
    forced = value_and_gradients(loss, *args, **everything_on(batch))
    for ours, expected in zip(forced, usual, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_writing_in_place_leaves_constants_alone(batch):
    """TensorFlow may fold constant scores; a second call must see them whole."""

    @tf.function
    def step():
        return value_and_gradients(
            SampledSoftmax(),
            tf.constant(batch["queries"]),
            tf.constant(batch["candidates"]),
            rules=key_rules(batch),
        )

    first = [tensor.numpy() for tensor in step()]
    for _ in range(2):
        for again, expected in zip(step(), first, strict=True):
            np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("size", [1, 2, 252, 507, 1000])
@pytest.mark.parametrize("score_range", [1.0, 1e4])
@pytest.mark.parametrize("temperature", [1.0, 0.01])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_error_budget(size, score_range, temperature, dtype):
    """No worse than the plain formula in full precision, plus rounding."""
    rng = np.random.default_rng(size)
    queries, candidates = rng.normal(size=(2, size, 8))
    candidates[: size // 2] = queries[: size // 2]
    queries *= score_range * temperature / np.abs(queries @ candidates.T).max()
    dtype = tf.as_dtype(dtype)
    queries, candidates = tf.cast(queries, dtype), tf.cast(candidates, dtype)
    full = np.float64 if dtype == tf.float64 else np.float32
    exact = np.longdouble if dtype == tf.float64 else np.float64

    def plain(precision):
        q, c = (np.array(x).astype(precision) for x in (queries, candidates))
        scores = q @ c.T / precision(temperature)
        top = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        losses = (np.log(total) + top)[:, 0] - np.diag(scores)
        d_scores = weights / total - np.eye(len(q), dtype=precision)
        d_scores /= precision(temperature)
        return losses, d_scores @ c, d_scores.T @ q

    losses = SampledSoftmax(temperature, reduction="none")(queries, candidates)
    value, *gradients = value_and_gradients(
        SampledSoftmax(temperature), queries, candidates
    )
    assert losses.dtype == value.dtype == full
    for ours, plain_value, truth in zip(
        (losses, *gradients), plain(full), plain(exact), strict=True
    ):
        # The scores are known to their rounding, and the result to its own.
        scale = np.abs(truth).max()
        relative = 8 * np.finfo(full).eps * score_range
        rounding = relative * max(scale, 1) + scale * dtype_epsilon(ours.dtype)
        budget = np.abs(plain_value - truth).max() + rounding
        error = np.abs(np.array(ours).astype(exact) - truth)
        assert error[np.abs(truth) < ours.dtype.max].max() <= budget
    np.testing.assert_allclose(value, np.sum(losses), rtol=1e-5)


def dtype_epsilon(dtype):
    return {"float16": 2**-11, "bfloat16": 2**-8}.get(tf.as_dtype(dtype).name, 0.0)


M = 3


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("num_hard_negatives", [None, 2])
@pytest.mark.parametrize("queries", ["queries", "heads"])
@pytest.mark.parametrize("positive", ["all", "negatives", "refined"])
def test_negatives_of_one_row_are_columns_that_others_do_not_see(
    batch, positive, queries, num_hard_negatives, corrected
):
    """The same as B x M more columns, dropped for all rows but their own."""
    if positive == "refined" and not corrected:
        pytest.skip("refined needs log Q")
    rng = np.random.default_rng(3)
    negatives = rng.normal(size=(B, M, D))
    negative_log_q = np.log(rng.uniform(0.01, 0.6, (B, M)))
    mask = rng.uniform(size=(B, M)) < 0.7
    loss = SampledSoftmax(0.5, positive, num_hard_negatives, row_block=2)
    shared = {"sample_weight": batch["weights"]}

    everyone = np.ones((B, C), bool)
    everyone[~np.eye(B, C, dtype=bool)] = rng.uniform(size=B * C - B) < 0.8
    own = np.zeros((B, B, M), bool)
    own[np.arange(B), np.arange(B)] = mask
    columns = {"score_mask": np.concatenate([everyone, own.reshape(B, -1)], axis=1)}
    rows = {"score_mask": everyone, "negative_mask": mask}
    if corrected:
        rows |= {"candidate_log_q": batch["log_q"], "negative_log_q": negative_log_q}
        log_q = np.concatenate([batch["log_q"], negative_log_q.ravel()])
        columns["candidate_log_q"] = log_q

    expected, d_queries, d_columns = value_and_gradients(
        loss,
        batch[queries],
        np.concatenate([batch["candidates"], negatives.reshape(-1, D)]),
        **columns,
        **shared,
    )
    negatives = tf.constant(negatives)
    with tf.GradientTape() as tape:
        tape.watch(negatives)
        value, d_q, d_candidates = value_and_gradients(
            loss,
            batch[queries],
            batch["candidates"],
            negative_embeddings=negatives,
            **rows,
            **shared,
        )
    d_negatives = tape.gradient(value, negatives)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(d_q, d_queries, atol=1e-12)
    np.testing.assert_allclose(d_candidates, d_columns[:C], atol=1e-12)
    np.testing.assert_allclose(
        d_negatives, tf.reshape(d_columns[C:], (B, M, D)), atol=1e-12
    )
    np.testing.assert_array_equal(d_negatives[~mask], 0)

    compiled = tf.function(loss, jit_compile=True)(
        batch[queries],
        batch["candidates"],
        negative_embeddings=negatives,
        **rows,
        **shared,
    )
    np.testing.assert_allclose(compiled, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative_embeddings": np.zeros((B, D))}, r"negative_embeddings.*rank 3"),
        ({"negative_embeddings": np.zeros((B + 1, 2, D))}, "negative_embeddings"),
        ({"negative_embeddings": np.zeros((B, 2, D + 1))}, "negative_embeddings"),
        ({"negative_embeddings": np.zeros((B, 2, D), int)}, "floating point"),
        ({"negative_mask": np.ones((B, 2))}, "negative_mask.*bool"),
        ({"negative_mask": np.ones((B, 3), bool)}, "negative_mask"),
        ({"negative_log_q": np.zeros((B, 2))}, "candidate_log_q.*together"),
        ({"candidate_log_q": np.zeros(C)}, "negative_log_q.*together"),
    ],
)
def test_bad_negatives_of_one_row(batch, arguments, message):
    arguments = {"negative_embeddings": np.zeros((B, 2, D))} | arguments
    with pytest.raises(ValueError, match=f"(?s){message}"):
        SampledSoftmax()(batch["queries"], batch["candidates"], **arguments)


def test_no_negatives_of_any_row_change_nothing(batch):
    loss = SampledSoftmax(row_block=2)
    run = value_and_gradients(loss, batch["queries"], batch["candidates"])
    with_none = value_and_gradients(
        loss,
        batch["queries"],
        batch["candidates"],
        negative_embeddings=np.zeros((B, 0, D)),
    )
    for ours, expected in zip(with_none, run, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_replicas_compute_what_one_device_does(batch, two_replicas):
    """Each of two replicas gets the loss and gradients of its own arguments."""

    def arguments(replica):
        return dict(
            query_embeddings=batch["queries"] * (1 + replica),
            candidate_embeddings=batch["candidates"],
            candidate_log_q=batch["log_q"],
            sample_weight=batch["weights"],
        )

    def run(replica):
        every = arguments(tf.cast(replica, batch["queries"].dtype))
        return value_and_gradients(
            SampledSoftmax(row_block=2),
            every.pop("query_embeddings"),
            every.pop("candidate_embeddings"),
            rules=key_rules(batch),
            **every,
        )

    @tf.function
    def step():
        return two_replicas.run(
            lambda: run(tf.distribute.get_replica_context().replica_id_in_sync_group)
        )

    per_replica = [two_replicas.experimental_local_results(x) for x in step()]
    for replica in range(2):
        for ours, expected in zip(per_replica, run(replica), strict=True):
            np.testing.assert_allclose(ours[replica], expected, rtol=1e-6, atol=1e-9)
