"""Input pipelines as they are timed."""

import tensorflow as tf


def without_prefetch(dataset):
    """The dataset without the prefetching that tf.data adds by itself.

    It would work ahead during the turns of others.
    """
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)
