"""Pairs are dropped in three ways, by how many there are: all give the oracle's."""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid
from oracles import dropped_pairs, row_losses
from softmax_cases import value_and_gradients

from tfrs_negatives.losses import SampledSoftmax, rules
from tfrs_negatives.losses import dropped_pairs as module
from tfrs_negatives.losses.dropped_pairs import DroppedPairs, row_order
from tfrs_negatives.losses.row_blocks import (
    AllRows,
    ChosenRows,
    Order,
    OrderedBlock,
    RowBlock,
)

B, C, D = 24, 40, 4
NO_COLUMNS = [None] * C


def skewed(seed, items=6):
    """Keys that three quarters of the rows share two of, items likewise."""
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.3, C), items)
    keys = np.minimum(rng.zipf(1.3, B), items)
    known = [rng.integers(1, items + 4, rng.integers(0, 4)) for _ in range(B)]
    return keys, ids, known


def rule_and_oracle(name, keys, ids, known):
    by_id = rules.SortedColumns(tf.constant(ids, tf.int64), C)
    row_keys = tf.constant(keys, tf.int64)
    if name == "accidental hits":
        rule = rules.same_key(tf.constant(ids[:B], tf.int64), by_id)
        return rule, dropped_pairs(B, C, ids=ids, accidental_hits=True)
    if name == "same key":
        rule = rules.same_key(row_keys, rules.SortedColumns(row_keys, C))
        columns = [*keys, *[None] * (C - B)]
        return rule, dropped_pairs(B, C, row_keys=[list(keys)], column_keys=[columns])
    if name == "shared positives":
        items = tf.constant(ids[:B], tf.int64)
        rule = rules.shared_positives(row_keys, row_keys, items, by_id)
        return rule, dropped_pairs(
            B, C, ids=ids, row_keys=[keys], column_keys=[NO_COLUMNS], shared=True
        )
    if name == "other keys":
        # Of the rows' keys; the last columns have none.
        by_key = rules.SortedColumns(tf.constant(np.resize(keys, C - 4), tf.int64), C)
        oracle = np.zeros((B, C), bool)
        oracle[:, : C - 4] = keys[:, None] != np.resize(keys, C - 4)
        return rules.other_keys(row_keys, by_key), oracle
    lengths = [len(items) for items in known]
    ends = tf.cumsum(lengths)
    flat = tf.constant(np.concatenate(known), tf.int64)
    rule = rules.known_positives(flat, ends - lengths, ends, max(lengths), by_id)
    return rule, dropped_pairs(B, C, ids=ids, known=known)


ONE_BY_ONE = ["accidental hits", "same key", "shared positives", "known positives"]
TOGETHER = [
    ("accidental hits",),
    ("same key",),
    ("known positives",),
    ("other keys",),
    ("accidental hits", "other keys"),
    ("accidental hits", "same key"),
    ("same key", "accidental hits", "known positives", "shared positives"),
]

# (share of pairs that is many, long ranges): all listed; what is long compared; ranges
# of any length compared; the rest as it is chosen.
WAYS = {"listed": (1e9, 128), "long": (0, 5), "any": (0, 10**6), "chosen": (None, 128)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch, compare_from):
    many, long = WAYS[request.param]
    if many is not None:
        compare_from(many)
    monkeypatch.setattr(module, "_LONG_RANGES", long)
    return request.param


def dropped_from(dropped, rows, own):
    """The places that `DroppedPairs` drops, [n, C] bool; `own` are [n] scores."""
    logits = tf.zeros([len(own), C])
    if rows.is_ordered is not None and bool(rows.is_ordered):
        logits = tf.where(dropped.in_all_rows(), -np.inf, logits)
    logits = dropped.drop(logits, lambda: tf.constant(own, tf.float32)).numpy()
    mine = np.arange(len(own)), rows.indices.numpy()
    kept = logits[mine]
    assert np.array_equal(kept, own) or not kept.any()
    logits[mine] = 0
    return np.isneginf(logits)


def ordered(rows, size, is_changed=True):
    """The first of a block of these rows, in an order that has them first."""
    others = [row for row in range(B) if row not in rows]
    ends = tf.constant([B])
    order = Order(tf.constant([*rows, *others]), tf.constant(is_changed), ends)
    return OrderedBlock(RowBlock(0, size), order)


BLOCKS = [
    AllRows(B),
    RowBlock(5, 9),
    RowBlock(3, 1),
    ChosenRows(tf.constant([7, 0, 23, 4])),
    ChosenRows(tf.zeros([0], tf.int32)),
    ordered([7, 0, 23, 4], 4),
    ordered([7], 1),
    ordered([], 0),
    ordered(range(B), 6, is_changed=False),
]


@pytest.mark.parametrize("names, seed", grid(TOGETHER, range(2)))
def test_dropped_pairs_are_the_oracles(names, seed, way):
    made = [rule_and_oracle(name, *skewed(seed)) for name in names]
    expected = np.any([oracle for _, oracle in made], axis=0)
    assert expected.mean() > 0.1
    for rows in BLOCKS:
        dropped = DroppedPairs([rule for rule, _ in made], rows)
        own = np.arange(1, int(rows.size) + 1)
        found = dropped_from(dropped, rows, own)
        np.testing.assert_array_equal(found, expected[rows.indices.numpy()])


def test_columns_that_all_rows_drop_are_left_to_others():
    """Nothing is listed or compared of them; rows that differ share none."""
    keys, ids, known = skewed(0)
    rule, oracle = rule_and_oracle("accidental hits", keys, ids, known)
    first = np.flatnonzero(ids[:B] == 1).tolist()
    rows = ordered(first, len(first))
    dropped = DroppedPairs([rule], rows)
    np.testing.assert_array_equal(dropped.in_all_rows(), ids == 1)
    kept = dropped.drop(tf.zeros([len(first), C]), lambda: tf.zeros([len(first)]))
    assert np.isfinite(kept).all()
    assert oracle[first].any()
    for mixed in (AllRows(B), ordered(first, B)):
        assert not np.any(DroppedPairs([rule], mixed).in_all_rows())


def test_rows_of_the_longest_ranges_come_first():
    keys, ids, known = skewed(3)
    rule, _ = rule_and_oracle("accidental hits", keys, ids, known)
    order = row_order([rule], num_blocks=5)
    assert bool(order.is_changed)
    rows = order.rows.numpy()
    np.testing.assert_array_equal(np.sort(rows), np.arange(B))
    counts = np.array([(ids == item).sum() for item in ids[:B]])[rows]
    assert (np.diff(counts) <= 0).all()
    # Rows of an item are neighbours.
    changes = np.count_nonzero(np.diff(ids[rows]))
    assert changes == len(np.unique(ids[:B])) - 1


def test_rows_are_sorted_by_the_rule_that_drops_most():
    rng = np.random.default_rng(0)
    keys, ids = rng.integers(0, 2, B), np.arange(C)
    ids[:4] = 7
    made = [
        rule_and_oracle(name, keys, ids, [[]] * B)[0]
        for name in ("accidental hits", "same key")
    ]
    for each in (made, made[::-1]):
        assert np.count_nonzero(np.diff(keys[row_order(each, 5).rows.numpy()])) == 1


@pytest.mark.parametrize("share", [1, 5, 10**6])
def test_blocks_end_with_long_ranges(share, monkeypatch):
    """Each has the rows of one long range, or of short ones; none is too large."""
    monkeypatch.setattr(module, "_OWN_BLOCKS", share)
    _, ids, known = skewed(3)
    rule, _ = rule_and_oracle("accidental hits", ids[:B], ids, known)
    order = row_order([rule], num_blocks=5)
    ends = order.ends.numpy()
    assert ends[-1] == B and (np.diff(ends) > 0).all()
    counts = np.array([(ids == item).sum() for item in ids])
    blocks = np.split(order.rows.numpy(), ends[:-1])
    assert max(map(len, blocks)) <= 7  # Half as large again as a fifth of the rows.
    for block in blocks:
        is_long = counts[block] > C // share
        assert is_long.all() or not is_long.any()
        assert not is_long.any() or len(set(ids[block])) == 1
    if share == 1:  # No range has more than all columns.
        assert len(blocks) == 5


def test_rows_of_a_key_that_fills_half_a_block_have_their_own():
    """Of other keys: whole blocks lose the same, which is free; others compare."""
    keys = np.array([5] * 9 + [1] * 4 + [7] * 2 + [3] * 4 + [2] * 4 + [8])
    keys = np.random.default_rng(0).permutation(keys)
    rule, oracle = rule_and_oracle("other keys", keys, *skewed(0)[1:])
    order = row_order([rule], num_blocks=5)
    assert bool(order.is_changed)
    rows, ends = order.rows.numpy(), order.ends.numpy()
    np.testing.assert_array_equal(np.sort(rows), np.arange(B))
    blocks = np.split(rows, ends[:-1])
    assert sorted(len(block) for block in blocks) == [3, 4, 4, 4, 4, 5]
    begins = [0, *ends[:-1]]
    for begin, block in zip(begins, blocks, strict=True):
        own = OrderedBlock(RowBlock(begin, len(block)), order)
        dropped = DroppedPairs([rule], own).in_all_rows()
        shares = len(set(keys[block])) == 1
        assert shares == (len(block) > 3)
        np.testing.assert_array_equal(dropped, shares & oracle[block[0]])


def test_few_pairs_leave_rows_as_they_are(compare_from):
    compare_from(1)
    rule, _ = rule_and_oracle("accidental hits", *skewed(0))
    order = row_order([rule], 5)
    assert not bool(order.is_changed)
    np.testing.assert_array_equal(order.rows, np.arange(B))


def test_what_has_no_order():
    """Lists have none; a single block has no use for one."""
    assert row_order([], 5) is None
    assert row_order([rule_and_oracle("known positives", *skewed(0))[0]], 5) is None
    rule, _ = rule_and_oracle("accidental hits", *skewed(0))
    assert row_order([rule], 1) is None
    order = row_order([rule], tf.constant(1))
    assert not bool(order.is_changed)
    np.testing.assert_array_equal(order.rows, np.arange(B))


def inputs(heads=False):
    rng = np.random.default_rng(1)
    return {
        "queries": rng.normal(size=(B, 2, D) if heads else (B, D)),
        "candidates": rng.normal(size=(C, D)),
        "log_q": np.log(rng.uniform(0.01, 0.5, C)),
        "weights": rng.uniform(0, 2, B),
    }


@pytest.mark.parametrize(
    "names, positive, heads",
    grid(TOGETHER, ["all", "negatives", "refined", "outside", None], [False, True]),
)
def test_losses_of_skewed_batches_are_the_oracles(names, positive, heads, way):
    """Also in blocks, in which rows are sorted; `None` is without log q."""
    made = [rule_and_oracle(name, *skewed(2)) for name in names]
    dropped = np.any([oracle for _, oracle in made], axis=0)
    case = inputs(heads)
    log_q = case["log_q"] if positive else None
    options = {"positive": positive or "all", "temperature": 0.7}
    losses = row_losses(
        case["queries"], case["candidates"], log_q=log_q, dropped=dropped, **options
    )
    given = {
        "candidate_log_q": None if log_q is None else tf.constant(log_q),
        "rules": [rule for rule, _ in made],
        "sample_weight": tf.constant(case["weights"]),
    }
    args = case["queries"], case["candidates"]
    found = {
        row_block: value_and_gradients(
            SampledSoftmax(row_block=row_block, **options), *args, **given
        )
        for row_block in (None, 5)
    }
    for value, *_ in found.values():
        np.testing.assert_allclose(value, case["weights"] @ losses, rtol=1e-9)
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    each = SampledSoftmax(row_block=5, reduction="none", **options)
    del given["sample_weight"]
    np.testing.assert_allclose(each(*args, **given), losses, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("names", TOGETHER)
def test_gradients_of_skewed_batches(names, way):
    """Those of the dense form of the same loss."""
    made = [rule_and_oracle(name, *skewed(4)) for name in names]
    dropped = np.any([oracle for _, oracle in made], axis=0)
    case = inputs()
    queries, candidates = tf.constant(case["queries"]), tf.constant(case["candidates"])
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        scores = tf.matmul(queries, candidates, transpose_b=True) - case["log_q"]
        scores = tf.where(dropped, tf.constant(-np.inf, tf.float64), scores)
        own = tf.linalg.diag_part(scores)
        losses = tf.reduce_logsumexp(scores, axis=1) - own
        value = tf.reduce_sum(losses * case["weights"])
    expected = tape.gradient(value, [queries, candidates])
    _, *gradients = value_and_gradients(
        SampledSoftmax(row_block=7),
        queries,
        candidates,
        candidate_log_q=tf.constant(case["log_q"]),
        rules=[rule for rule, _ in made],
        sample_weight=tf.constant(case["weights"]),
    )
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_one_graph_for_light_and_heavy_batches():
    """All is chosen at run time: sizes and skew are unknown while tracing."""
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, D], tf.float64),
            tf.TensorSpec([None, D], tf.float64),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def step(queries, candidates, ids):
        traces.append(1)
        size = tf.size(ids)
        rule = rules.same_key(ids[:B], rules.SortedColumns(ids, size))
        loss = SampledSoftmax(row_block=5)
        return value_and_gradients(loss, queries, candidates, rules=[rule])

    case = inputs()
    for ids in (np.arange(C), skewed(0)[1], np.zeros(C, int)):
        dropped = dropped_pairs(B, C, ids=ids, accidental_hits=True)
        expected = row_losses(case["queries"], case["candidates"], dropped=dropped)
        value, *gradients = step(
            case["queries"], case["candidates"], tf.constant(ids, tf.int64)
        )
        np.testing.assert_allclose(value, expected.sum(), rtol=1e-9, atol=1e-12)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert len(traces) == 1
