"""With log Q the expected gradient tends to that of the full softmax; else not.

A catalogue of 24 kinds of items; all items of a kind score alike, and one of the
kinds may hold many items, each of them rarer than one in a million. One query, one
positive, C columns drawn with replacement, and the gradient in the scores, averaged
over independent draws and compared with the full softmax's (closed form, NumPy).

Decision: the correction counts as biased when for some kind the averaged gradient is
more than TOLERANCE away, beyond 6 standard errors. False alarms: a normal variable
leaves 6 standard errors with probability 2e-9, so in 24 kinds and all the tests below
with less than 1e-6.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.layers import MixedLogQ, StaticFrequency
from tfrs_negatives.losses import SampledSoftmax

KINDS, POSITIVE, ROWS, TOLERANCE = 24, 5, 600, 0.01
RNG = np.random.default_rng(11)
SCORES = RNG.normal(size=KINDS)
ZIPF = 1 / np.arange(1, KINDS + 1)
ZIPF /= ZIPF.sum()
PROPOSALS = {
    "in-batch": ZIPF,
    "uniform": np.full(KINDS, 1 / KINDS),
    "popularity": ZIPF**0.75 / (ZIPF**0.75).sum(),
}


def full_gradient(scores, items):
    """Softmax minus one-hot; `items` is how many items each kind has."""
    weights = items * np.exp(scores)
    gradient = weights / weights.sum()
    gradient[POSITIVE] -= 1
    return gradient


def sampled_gradient(columns, log_q, positive="all", scores=SCORES):
    """Averaged gradient and its standard error.

    Args:
      columns: [ROWS, C] kinds drawn; the positive comes on top.
      log_q: [KINDS] correction of a column, or [ROWS, C] of each.
    """
    items = np.eye(KINDS)
    of_columns = log_q[columns] if log_q.ndim == 1 else log_q
    own = log_q[POSITIVE] if log_q.ndim == 1 else log_q[columns == POSITIVE].mean()
    queries = tf.constant(np.tile(scores, (ROWS, 1)))
    with tf.GradientTape() as tape:
        tape.watch(queries)
        loss = SampledSoftmax(positive=positive)(
            queries,
            np.tile(items[POSITIVE], (ROWS, 1)),
            negative_embeddings=items[columns],
            candidate_log_q=np.full(ROWS, own),
            negative_log_q=of_columns,
            # Rows are independent draws: none sees another's positive.
            score_mask=np.eye(ROWS, dtype=bool),
            # "refined" is over the other items by definition.
            negative_mask=(columns != POSITIVE) if positive == "refined" else None,
        )
    gradients = tape.gradient(loss, queries).numpy()
    return gradients.mean(axis=0), gradients.std(axis=0) / np.sqrt(ROWS)


def distance(columns, log_q, positive="all", scores=SCORES, items=1):
    """How far the gradient surely is from the full softmax's."""
    mean, error = sampled_gradient(columns, log_q, positive, scores)
    return np.max(np.abs(mean - full_gradient(scores, items)) - 6 * error)


def draw(proposal, num_columns):
    return RNG.choice(KINDS, (ROWS, num_columns), p=proposal)


def draw_mixture(num_columns):
    """Half in-batch, half uniform."""
    half = num_columns // 2
    halves = [draw(PROPOSALS["in-batch"], half), draw(PROPOSALS["uniform"], half)]
    return np.concatenate(halves, axis=1)


def mixture_log_q():
    layer = MixedLogQ(
        [StaticFrequency(1e6 * ZIPF), float(-np.log(KINDS))], sizes=[KINDS]
    )
    # Any B = K does: here both are the number of kinds.
    ids = np.concatenate([np.arange(KINDS), np.arange(KINDS)])
    return layer(tf.constant(ids), num_positives=KINDS).numpy()[:KINDS].astype(float)


@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
@pytest.mark.parametrize("name", [*PROPOSALS, "mixture"])
def test_expected_gradient_tends_to_the_full_softmax(name, positive):
    def far(num_columns):
        if name == "mixture":
            return distance(draw_mixture(num_columns), mixture_log_q(), positive)
        q = PROPOSALS[name]
        return distance(draw(q, num_columns), np.log(q), positive)

    assert far(1024) < TOLERANCE
    if positive == "all":
        # The positive is always among the columns, which is what C must outgrow; the
        # others leave it uncorrected, or out of the denominator.
        assert far(8) > TOLERANCE


@pytest.mark.parametrize("positive", ["all", "negatives", "refined", "outside"])
def test_the_flipped_sign_is_biased(positive):
    # Times q: at most 0, as a log probability is, after a constant is taken off.
    flipped = -np.log(ZIPF)
    flipped -= flipped.max() + 0.1
    assert distance(draw(ZIPF, 1024), flipped, positive) > TOLERANCE


def test_no_correction_is_biased():
    assert distance(draw(ZIPF, 1024), np.full(KINDS, -1.0)) > TOLERANCE


@pytest.mark.parametrize("clipped", [False, True])
def test_q_clipped_at_one_in_a_million_is_biased(clipped):
    """A million rare items, together drawn as often as all the others."""
    items = np.ones(KINDS)
    items[-1] = 10**6
    q = np.append(0.5 * ZIPF[:-1] / ZIPF[:-1].sum(), 0.5 / 10**6)
    columns = draw(q * items, 1024)
    log_q = np.log(np.maximum(q, 1e-6) if clipped else q)
    # Rare items score low, so that they do not fill the whole softmax.
    scores = np.where(items > 1, 2 - np.log(10**6), SCORES)
    far = distance(columns, log_q, scores=scores, items=items) > TOLERANCE
    assert far == clipped


def test_the_wrong_mixture_is_biased():
    columns = draw_mixture(1024)
    nine_to_one = np.log(0.9 * ZIPF + 0.1 / KINDS)
    assert distance(columns, np.log(ZIPF)) > TOLERANCE
    assert distance(columns, nine_to_one) > TOLERANCE
    assert distance(columns, mixture_log_q()) < TOLERANCE


def test_each_source_by_its_own_q_is_noisier_than_the_mixture():
    """Both are unbiased in the limit; the balance heuristic has the smaller error."""
    columns = draw_mixture(1024)
    own_q = np.concatenate(
        [np.log(ZIPF)[columns[:, :512]], np.full((ROWS, 512), -np.log(KINDS))], axis=1
    )
    assert distance(columns, own_q) < TOLERANCE
    _, own_error = sampled_gradient(columns, own_q)
    _, mixture_error = sampled_gradient(columns, mixture_log_q())
    # The ratio of variances has a standard error of about 6% a kind.
    assert np.sum(mixture_error**2) < 0.9 * np.sum(own_error**2)
