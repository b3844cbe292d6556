"""A ranker on request-sorted impressions: batch normalisation and the prior.

`python examples/ranker.py` makes impressions whose click rate depends on their request
(how well it can be answered) and on the item, sorted by request as logs are, keeps a
tenth of those without a click, and trains a ranker on two replicas (logical processors)
of 4 requests each: as usual, and with the two remedies of `docs/ranking.md`,

* `layers.PriorCorrection`: the odds of all impressions, not of those that were kept;
* `BatchNormalization(synchronized=True)`: statistics of all replicas' requests.

It prints the log loss of each on impressions of new requests, none left out, and that
of the true probabilities.
"""

import argparse

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import PriorCorrection

REPLICAS, REQUESTS_PER_REPLICA, ROWS_PER_REQUEST = 2, 4, 16
KEEP_RATE = 0.1


def impressions(num_requests, seed):
    """Features [n, 2], clicks [n] and their probabilities [n], sorted by request."""
    rng = np.random.default_rng(seed)
    of_request = np.repeat(rng.normal(size=num_requests), ROWS_PER_REQUEST)
    of_item = rng.normal(size=of_request.size)
    p = 1 / (1 + np.exp(3 - 1.5 * of_request - of_item))
    clicks = rng.random(p.size) < p
    features = np.stack([of_request, of_item], axis=1)
    return features.astype("float32"), clicks.astype("float32"), p


def kept_batches(features, clicks, seed):
    """All clicks and a part of the rest, in the order of requests."""
    rng = np.random.default_rng(seed)
    kept = (clicks > 0) | (rng.random(clicks.size) < KEEP_RATE)
    rows = tf.data.Dataset.from_tensor_slices(
        (features[kept], clicks[kept, np.newaxis])
    )
    # About as many rows as a replica's requests keep.
    share = kept.mean() * ROWS_PER_REQUEST * REQUESTS_PER_REPLICA * REPLICAS
    return rows.batch(int(share), drop_remainder=True)


def ranker(synchronized, keep_rate):
    """Logits of clicks."""
    return keras.Sequential(
        [
            keras.layers.Input([2]),
            keras.layers.BatchNormalization(synchronized=synchronized, momentum=0.9),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(1),
            PriorCorrection(keep_rate),
        ]
    )


def log_loss(logits, clicks):
    return float(np.mean(np.logaddexp(0, logits) - clicks * logits))


def main(requests, epochs):
    processor = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(processor, logical)
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(REPLICAS)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    features, clicks, _ = impressions(requests, seed=0)
    batches = kept_batches(features, clicks, seed=1)
    new_features, new_clicks, p = impressions(2000, seed=2)
    for name, synchronized, keep_rate in (
        ("as usual", False, 1.0),
        ("prior corrected", False, KEEP_RATE),
        ("prior corrected, synchronized", True, KEEP_RATE),
    ):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = ranker(synchronized, keep_rate)
            model.compile(
                keras.optimizers.Adam(0.01),
                keras.losses.BinaryCrossentropy(from_logits=True),
            )
        model.fit(batches, epochs=epochs, verbose=0)
        logits = model(new_features, training=False).numpy()[:, 0]
        print(f"{name}: log loss {log_loss(logits, new_clicks):.4f}")
    print(f"true probabilities: {log_loss(np.log(p / (1 - p)), new_clicks):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.requests, arguments.epochs)
