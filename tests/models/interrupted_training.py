"""Trains for 12 steps with a checkpoint every 4; may kill itself after a step.

    interrupted_training.py FOLDER RESULT [KILL_AFTER]

A later run in the same FOLDER goes on from the last checkpoint. The final state is
written to RESULT, an .npz file.
"""

import os
import signal
import sys

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import ScaledLogQ, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

ROWS, STEPS, EVERY = 16, 12, 4


class TwoTower(Model):
    def __init__(self):
        super().__init__()
        init = keras.initializers.RandomNormal(seed=3)
        self.users = keras.layers.Embedding(10, 4, init)
        self.items = keras.layers.Embedding(30, 4, init)
        self.frequency = StreamingFrequency(100, num_hashes=2)
        schedule = keras.optimizers.schedules.PolynomialDecay(0.0, STEPS, 1.0)
        self.task = Retrieval(sampling_correction=ScaledLogQ(self.frequency, schedule))

    def compute_loss(self, features, training=False):
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


def batch(step):
    rng = np.random.default_rng(step)
    return {
        "user": tf.constant(rng.integers(0, 10, ROWS)),
        "item": tf.constant(np.minimum(rng.geometric(0.2, ROWS), 29)),
    }


def main(folder, result, kill_after=0):
    model = TwoTower()
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(model=model, step=step)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1)
    manager.restore_or_initialize()
    while int(step) < STEPS:
        model.fit(tf.data.Dataset.from_tensors(batch(int(step))), verbose=0)
        step.assign_add(1)
        if int(step) % EVERY == 0:
            manager.save()
        if int(step) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    optimizer = model.optimizer.variables
    optimizer = optimizer() if callable(optimizer) else optimizer  # Keras 2: a method
    variables = [*model.variables, *optimizer]
    arrays = {str(i): variable.numpy() for i, variable in enumerate(variables)}
    np.savez(result, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
