"""Groups of rows against distinct columns, beside all rows against all columns."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import dropped_pairs, numeric_gradient, row_losses

from tfrs_negatives.losses import (
    repeat_blocks,
    repeat_groups,
    row_blocks,
    rules,
)
from tfrs_negatives.losses import row_losses as losses_of_rows

# Rows, columns, distinct queries (a group each), distinct candidates, width.
B, C, G, V, D = 11, 15, 4, 6, 3
TEMPERATURE = 0.6
QUERY_OF_ROW = np.array([2, 0, 1, 0, 3, 1, 1, 0, 3, 2, 0])
ITEM_OF_COLUMN = np.array([4, 0, 1, 0, 5, 2, 1, 3, 5, 4, 2, 0, 3, 3, 1])
# Of the groups, which the first query meets first.
FIRST_SEEN = np.array([2, 0, 1, 3])
USER_OF_QUERY = np.array([7, 7, 8, 9])
KNOWN_OF_QUERY = [[0, 3], [], [5], [1, 2, 4, 1]]
RULES = {
    "none": (),
    "accidental hits": ("accidental",),
    "users": ("user",),
    "known positives": ("known",),
    "all": ("accidental", "user", "known"),
    "nothing left": ("everything",),
}


def make_inputs(seed=0):
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(G, D)), rng.normal(size=(V, D)), np.array(TEMPERATURE)]
    return inputs, np.log(rng.uniform(0.05, 0.4, V)), rng.uniform(0.5, 2.0, B)


def make_layout(names):
    """The groups, and the oracle's dropped pairs."""
    rows = repeat_groups.Groups(tf.constant(QUERY_OF_ROW))
    columns = repeat_groups.Groups(tf.constant(ITEM_OF_COLUMN))
    np.testing.assert_array_equal(tf.gather(QUERY_OF_ROW, rows.first), FIRST_SEEN)
    users, keyless = USER_OF_QUERY[QUERY_OF_ROW], [None] * (C - B)
    by_id = rules.SortedColumns(tf.constant(ITEM_OF_COLUMN, tf.int64), C)
    found, row_keys = [], []
    if "user" in names:
        by_user = rules.SortedColumns(tf.constant(users, tf.int64), C)
        of_groups = tf.constant(USER_OF_QUERY[FIRST_SEEN], tf.int64)
        found.append(rules.same_key(of_groups, by_user))
        row_keys.append(list(users))
    known = {"known": KNOWN_OF_QUERY, "everything": [list(range(V))] * G}
    known = next((lists for name, lists in known.items() if name in names), None)
    if known is not None:
        lists = [known[query] for query in FIRST_SEEN]
        ends = np.cumsum([len(one) for one in lists]).astype("int32")
        starts = np.concatenate([[0], ends[:-1]]).astype("int32")
        flat = tf.constant(np.concatenate(lists), tf.int64)
        longest = max(len(one) for one in lists)
        found.append(
            rules.known_positives(
                flat, tf.constant(starts), tf.constant(ends), longest, by_id
            )
        )
    accidental = tf.constant(ITEM_OF_COLUMN) if "accidental" in names else None
    layout = repeat_groups.Layout(rows, columns, found, accidental)
    dropped = dropped_pairs(
        B,
        C,
        ids=ITEM_OF_COLUMN,
        accidental_hits="accidental" in names,
        row_keys=row_keys,
        column_keys=[keys + keyless for keys in row_keys],
        known=None if known is None else [known[query] for query in QUERY_OF_ROW],
    )
    return layout, dropped


RHO = 1.3


def softmax_of_sums(log_sums, own, num_negatives, own_log_q):
    return losses_of_rows.cross_entropy_of_sums(log_sums, own)


def outside_of_sums(log_sums, own, num_negatives, own_log_q):
    rho = tf.constant(RHO, tf.float64)
    return losses_of_rows.outside_of_sums(log_sums, own, rho)


OF_SUMS = {
    "refined": losses_of_rows.refined_of_sums,
    "outside": outside_of_sums,
}


def run(layout, inputs, weights, *, log_q=None, positive="all", num_blocks=1):
    """As of the distinct embeddings in the order in which they are met."""
    queries, candidates, temperature = inputs
    items = tf.gather(ITEM_OF_COLUMN, layout.columns.first)
    losses, gradients = repeat_blocks.run(
        layout,
        None if log_q is None else tf.gather(log_q, items),
        positive == "all",
        OF_SUMS.get(positive, softmax_of_sums),
        tf.constant(num_blocks),
        (
            tf.gather(queries, FIRST_SEEN),
            tf.gather(candidates, items),
            tf.constant(temperature),
        ),
        None if weights is None else tf.constant(weights),
    )
    if gradients is None:
        return losses, None
    d_queries, d_candidates, d_temperature = map(np.asarray, gradients)
    back = [np.zeros((G, D)), np.zeros((V, D)), d_temperature]
    back[0][FIRST_SEEN], back[1][items] = d_queries, d_candidates
    return losses, back


def losses_by_loops(inputs, dropped, log_q=None, positive="all"):
    queries, candidates, temperature = inputs
    return row_losses(
        queries[QUERY_OF_ROW],
        candidates[ITEM_OF_COLUMN],
        temperature=float(temperature),
        log_q=None if log_q is None else log_q[ITEM_OF_COLUMN],
        dropped=dropped,
        positive=positive,
        negative_weight=RHO,
    )


CORRECTIONS = [
    ("all", False),
    ("all", True),
    ("negatives", True),
    ("refined", True),
    ("outside", False),
    ("outside", True),
]


@pytest.mark.parametrize("positive, corrected", CORRECTIONS)
@pytest.mark.parametrize("names", RULES)
def test_losses_and_gradients(names, positive, corrected):
    layout, dropped = make_layout(RULES[names])
    inputs, log_q, weights = make_inputs()
    options = {"log_q": log_q if corrected else None, "positive": positive}
    losses, gradients = run(layout, inputs, weights, num_blocks=2, **options)
    expected = losses_by_loops(inputs, dropped, **options)
    np.testing.assert_allclose(losses, expected, rtol=1e-11, atol=1e-13)
    assert names != "nothing left" or not np.any(losses)
    if positive == "refined":
        return  # Its factor 1 - P is held constant.
    for place, gradient in enumerate(gradients):

        def weighted(x, place=place):
            given = [*inputs[:place], x, *inputs[place + 1 :]]
            return weights @ losses_by_loops(given, dropped, **options)

        numeric = numeric_gradient(weighted, inputs[place])
        np.testing.assert_allclose(gradient, numeric, rtol=1e-7, atol=1e-6)
        assert names != "nothing left" or not np.any(gradient)


@pytest.mark.parametrize("positive", ["all", "refined", "outside"])
@pytest.mark.parametrize("names", ["none", "all", "nothing left"])
@pytest.mark.parametrize("num_blocks", [2, 3, G, G + 3])
def test_many_blocks_are_one(num_blocks, names, positive):
    """Also where some have no groups."""
    layout, _ = make_layout(RULES[names])
    inputs, log_q, weights = make_inputs(seed=1)
    options = {"log_q": log_q, "positive": positive}
    losses, gradients = run(layout, inputs, weights, **options)
    found, found_gradients = run(
        layout, inputs, weights, num_blocks=num_blocks, **options
    )
    np.testing.assert_allclose(found, losses, rtol=1e-13, atol=1e-15)
    for ours, expected in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-14)


def test_a_group_without_negatives_is_beside_others():
    """All of one query's columns are known: cost 0, and no gradient of it is nan."""
    layout, dropped = make_layout(("everything",))
    rows = repeat_groups.Groups(tf.constant(QUERY_OF_ROW))
    by_id = rules.SortedColumns(tf.constant(ITEM_OF_COLUMN, tf.int64), C)
    # The first group that is met is query 2.
    lists = [list(range(V)), [], [], []]
    ends = tf.constant([V, V, V, V])
    starts = tf.constant([0, V, V, V])
    rule = rules.known_positives(
        tf.constant(sum(lists, []), tf.int64), starts, ends, V, by_id
    )
    layout = repeat_groups.Layout(rows, layout.columns, [rule])
    dropped = dropped & (QUERY_OF_ROW == 2)[:, np.newaxis]
    inputs, _, weights = make_inputs()
    losses, gradients = run(layout, inputs, weights)
    expected = losses_by_loops(inputs, dropped)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(losses) == 0, QUERY_OF_ROW == 2)
    assert not np.any(gradients[0][2])
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("gap", [20.0, 60.0, 300.0])
def test_where_a_rows_own_item_is_nearly_the_whole_sum(gap):
    """Its group's sum less its own would be rounding, or nothing."""
    layout, dropped = make_layout(("accidental",))
    inputs, _, weights = make_inputs()
    inputs[0][0] = [gap * TEMPERATURE, 0.0, 0.0]
    inputs[1][:, 0] = np.arange(V) / V
    inputs[1][0, 0] = 2.0  # An item of query 0's rows, far above the others.
    losses, gradients = run(layout, inputs, weights)
    expected = losses_by_loops(inputs, dropped)
    # The loops' difference of logarithms is of no use for losses near 0.
    rows = np.flatnonzero((QUERY_OF_ROW == 0) & (ITEM_OF_COLUMN[:B] == 0))
    scores = inputs[1][ITEM_OF_COLUMN] @ inputs[0][0] / TEMPERATURE
    ratios = np.exp(scores[ITEM_OF_COLUMN != 0] - 2 * gap)
    expected[rows] = np.log1p(ratios.sum())
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert len(rows) == 2 and np.all((0 < expected[rows]) & (expected[rows] < 1e-8))

    def weighted(x):
        return weights @ losses_by_loops([inputs[0], x, inputs[2]], dropped)

    numeric = numeric_gradient(weighted, inputs[1])
    np.testing.assert_allclose(gradients[1], numeric, rtol=1e-5, atol=1e-6 * gap)


@pytest.mark.parametrize("names", ["none", "all"])
def test_weights_of_0_leave_rows_out(names):
    layout, dropped = make_layout(RULES[names])
    inputs, log_q, weights = make_inputs()
    weights[::2] = 0.0
    _, gradients = run(layout, inputs, weights, log_q=log_q)
    rows = np.flatnonzero(weights)

    def weighted(x):
        losses = losses_by_loops([inputs[0], x, inputs[2]], dropped, log_q)
        return weights[rows] @ losses[rows]

    np.testing.assert_allclose(
        gradients[1], numeric_gradient(weighted, inputs[1]), rtol=1e-7, atol=1e-6
    )
    _, gradients = run(layout, inputs, np.zeros(B), log_q=log_q)
    assert not any(np.any(gradient) for gradient in gradients)


def test_without_weights_losses_alone():
    layout, _ = make_layout(RULES["all"])
    inputs, log_q, weights = make_inputs()
    losses, gradients = run(layout, inputs, None, log_q=log_q)
    assert gradients is None
    expected, _ = run(layout, inputs, weights, log_q=log_q)
    np.testing.assert_array_equal(losses, expected)


def test_sums_of_its_losses_are_differentiable():
    """What `row_blocks` makes of a run, it makes of this one."""
    layout, dropped = make_layout(RULES["all"])
    inputs, log_q, weights = make_inputs()
    queries = tf.constant(inputs[0])

    def a_run(given, weights):
        items = tf.gather(ITEM_OF_COLUMN, layout.columns.first)
        return repeat_blocks.run(
            layout,
            tf.gather(log_q, items),
            True,
            softmax_of_sums,
            tf.constant(2),
            given,
            weights,
        )

    with tf.GradientTape() as tape:
        tape.watch(queries)
        items = tf.gather(ITEM_OF_COLUMN, layout.columns.first)
        given = (
            tf.gather(queries, FIRST_SEEN),
            tf.gather(inputs[1], items),
            tf.constant(TEMPERATURE, tf.float64),
        )
        value = row_blocks.weighted_sum(a_run, given, tf.constant(weights))
    gradient = tf.convert_to_tensor(tape.gradient(value, queries))
    expected = weights @ losses_by_loops(inputs, dropped, log_q)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    _, gradients = run(layout, inputs, weights, log_q=log_q)
    np.testing.assert_allclose(gradient, gradients[0], rtol=1e-12)
