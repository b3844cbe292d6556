import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.layers import PriorCorrection


def formula(p, w):
    return p / (p + (1 - p) / w)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("keep_rate", [1.0, 0.3, 1e-4])
def test_equals_the_formula(from_logits, keep_rate):
    p = np.array([[1e-6, 0.2], [0.5, 1 - 1e-6]])
    inputs = np.log(p / (1 - p)) if from_logits else p
    found = PriorCorrection(keep_rate, from_logits)(tf.constant(inputs)).numpy()
    if from_logits:
        found = 1 / (1 + np.exp(-found))
    np.testing.assert_allclose(found, formula(p, keep_rate), rtol=1e-5)


def test_rows_with_rates_of_their_own():
    p, w = np.array([0.5, 0.5, 0.9]), np.array([0.1, 1.0, 0.5])
    layer = PriorCorrection(from_logits=False)
    np.testing.assert_allclose(
        layer(tf.constant(p), keep_rate=tf.constant(w)), formula(p, w), rtol=1e-6
    )


@pytest.mark.parametrize(
    "shape, rates", [([4, 1], [4]), ([4], [4, 1]), ([3, 2], [3]), ([2, 1], [1, 2])]
)
@pytest.mark.parametrize("known", [True, False, None])
@pytest.mark.parametrize("training", [True, False])
def test_rates_that_would_change_the_shape(shape, rates, known, training):
    """Told whether shapes are known, partly known, or not known while tracing.

    `call` itself, since Keras 3 takes no inputs of unknown rank.
    """
    layer = PriorCorrection()
    specs = [
        tf.TensorSpec(None if known is None else s if known else [None] * len(s))
        for s in (shape, rates)
    ]
    call = tf.function(lambda x, w: layer.call(x, w, training), input_signature=specs)
    errors = ValueError, tf.errors.InvalidArgumentError
    with pytest.raises(errors, match="`keep_rate` must broadcast.*tf.expand_dims"):
        call(tf.zeros(shape), tf.fill(rates, 0.5))


@pytest.mark.parametrize(
    "shape, rates", [([4, 1], [4, 1]), ([4, 3], [4, 1]), ([2, 3], [3]), ([2, 3], [])]
)
@pytest.mark.parametrize("known", [True, False, None])
def test_rates_that_broadcast_to_the_shape(shape, rates, known):
    layer = PriorCorrection()
    w = np.random.default_rng(0).uniform(0.1, 1, rates).astype(np.float32)
    specs = [
        tf.TensorSpec(None if known is None else s if known else [None] * len(s))
        for s in (shape, rates)
    ]
    call = tf.function(lambda x, w: layer.call(x, w), input_signature=specs)
    expected = np.zeros(shape) + np.log(w)
    np.testing.assert_allclose(call(tf.zeros(shape), w), expected, rtol=1e-5)


def test_probabilities_0_and_1_stay():
    layer = PriorCorrection(0.01, from_logits=False)
    np.testing.assert_array_equal(layer(tf.constant([0.0, 1.0])), [0.0, 1.0])


def test_training_is_left_as_it_is():
    logits = tf.constant([0.5, -2.0])
    layer = PriorCorrection(0.1)
    np.testing.assert_array_equal(layer(logits, training=True), logits)
    np.testing.assert_allclose(
        layer(logits, training=False), logits + np.log(0.1), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype):
    found = PriorCorrection(0.5)(tf.constant([3.0], dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(tf.cast(found, "float32"), 3 + np.log(0.5), rtol=1e-2)


def test_a_subsampled_ranker_is_calibrated():
    """A logistic ranker fitted to a twentieth of the negatives, in ten bins of scores.

    In each bin the mean label and the mean corrected prediction differ by less than
    4.4 standard errors, of labels and of the fit: false-alarm rate 1e-4 for the ten
    together. Uncorrected they differ by far more.
    """
    rng = np.random.default_rng(0)
    n, w = 400_000, 0.05
    x = np.stack([np.ones(n), rng.normal(size=n)], axis=1)
    p = 1 / (1 + np.exp(3.5 - x[:, 1]))
    y = rng.random(n) < p
    kept = y | (rng.random(n) < w)
    weights = np.zeros(2)
    for _ in range(20):  # Newton's method.
        fitted = 1 / (1 + np.exp(-x[kept] @ weights))
        hessian = (x[kept] * (fitted * (1 - fitted))[:, None]).T @ x[kept]
        weights += np.linalg.solve(hessian, x[kept].T @ (y[kept] - fitted))

    logits = x @ weights
    served = 1 / (1 + np.exp(-PriorCorrection(w)(tf.constant(logits)).numpy()))
    uncorrected = 1 / (1 + np.exp(-logits))
    for rows in np.array_split(np.argsort(logits), 10):
        slope = (x[rows] * (served[rows] * (1 - served[rows]))[:, None]).mean(axis=0)
        variance = slope @ np.linalg.solve(hessian, slope)
        variance += np.sum(p[rows] * (1 - p[rows])) / len(rows) ** 2
        allowed = 4.4 * np.sqrt(variance)
        assert abs(served[rows].mean() - y[rows].mean()) < allowed
        assert abs(uncorrected[rows].mean() - y[rows].mean()) > 5 * allowed


def test_rebuilt_from_its_config():
    layer = PriorCorrection(0.2, False, name="prior")
    assert PriorCorrection.from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )


@pytest.mark.parametrize("keep_rate", [0.0, -1.0, 1.5, float("nan")])
def test_bad_rates(keep_rate):
    with pytest.raises(ValueError, match=r"keep_rate.*\(0, 1\]"):
        PriorCorrection(keep_rate)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"keep_rate.*\(0, 1\]"):
        PriorCorrection()(tf.zeros([1]), keep_rate=tf.constant([keep_rate]))


def test_a_rate_comes_once():
    for layer, rate in ((PriorCorrection(), None), (PriorCorrection(0.5), 0.5)):
        with pytest.raises(ValueError, match="expected it once"):
            layer(tf.zeros([1]), keep_rate=rate)


def test_logits_are_no_probabilities():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[0, 1\].*from_logits"):
        PriorCorrection(0.5, from_logits=False)(tf.constant([1.5]))
