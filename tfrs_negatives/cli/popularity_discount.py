"""Keeps a chosen part of the items' popularity out of the learned scores."""

import math

import tensorflow as tf

from tfrs_negatives._keras import keras


class PopularityDiscount(keras.layers.Layer):
    """A log-Q correction that leaves `discount` times log popularity uncorrected.

    With log Q alone, a sampled softmax learns s(x, y) = log p(y|x) up to a constant
    of the row: it ranks by probability, and popular items take most places. Training
    on s + b log q instead (logit adjustment, Menon et al., "Long-tail learning via
    logit adjustment", ICLR 2021, equation 10) makes the same softmax learn

        s(x, y) = log p(y|x) - b log(q(y) + a / N),

    from ranking by probability (b = 0) to ranking by lift (b = 1). Both estimates
    of log q are the correction's own. The share a / N of a uniform draw keeps rare
    items, whose q is little more than noise, from the largest bonus. The correction
    is written as log Q - b log(1 + q N / a), which differs by a constant that cancels
    in the softmax, and is at most 0.

    Args:
      correction: Layer giving log Q of the columns; learns in training.
      frequency: Layer giving log q of an item, one that `correction` trains.
      num_items: N, the size of the catalogue.
      discount: b in [0, 1].
      smoothing: a, above 0.

    Call arguments:
      ids: [C] candidate ids.
      num_positives: B, how many leading ids are positives; None: all.
      training: Whether `correction` learns.

    Returns:
      [C] float32, what is to be subtracted from the scores.
    """

    def __init__(self, correction, frequency, num_items, discount, smoothing=0.2):
        super().__init__()
        self.correction = correction
        self.frequency = frequency
        self.discount = discount
        self._log_floor = math.log(smoothing / num_items)  # log(a / N)

    def call(self, ids, num_positives=None, training=False):
        log_q = self.correction(ids, num_positives=num_positives, training=training)
        log_lift = self.frequency(ids, training=False) - self._log_floor
        return log_q - self.discount * tf.math.softplus(log_lift)
