"""The two towers of `two_tower.py` on several replicas, logical devices of the CPU.

A setting's `replicas` share its `batch`, and `global_negatives` says whether they share
their negatives too. The rate follows the square root of the batch from `base_batch` on.
"""

import math

import numpy as np
import tensorflow as tf

from benchmarks.common.replicas import make_logical_processors, on_logical_processors
from benchmarks.quality import in_batch
from benchmarks.quality.models import two_tower

keras = tf.keras


def fit(train, setting, seed):
    setting = {**two_tower.PLAIN, **setting}
    replicas = setting["replicas"]
    make_logical_processors(replicas)
    keras.utils.set_random_seed(seed)
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = on_logical_processors(replicas)
    steps = in_batch.num_steps(train, setting)
    rate = setting["rate"] * math.sqrt(setting["batch"] / setting["base_batch"])
    with strategy.scope():
        model = two_tower.TwoTowers(
            train, setting, None, steps, setting["global_negatives"]
        )
        decay = keras.optimizers.schedules.CosineDecay(rate, steps)
        model.compile(keras.optimizers.legacy.Adam(decay))
    order = list(in_batch.batches(train, setting, seed))
    columns = zip(("users", "items"), zip(*order, strict=True), strict=True)
    rows = {name: np.concatenate(values) for name, values in columns}
    data = tf.data.Dataset.from_tensor_slices(rows)
    data = data.batch(setting["batch"], drop_remainder=True).prefetch(2)
    epochs = setting["epochs"]
    model.fit(data, epochs=epochs, steps_per_epoch=steps // epochs, verbose=2)
    return model.factors()
