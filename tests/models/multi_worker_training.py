"""One of several workers, or none, that train the model of `replicated_two_tower`.

multi_worker_training.py RESULT [BACKUP [KILL_AFTER]]: writes what was learned to
RESULT, if it is the chief's to write; resumes from BACKUP; with KILL_AFTER the
process kills itself after so many steps. Workers find each other by TF_CONFIG.
"""

import json
import os
import signal
import sys

import numpy as np
import tensorflow as tf
from replicated_two_tower import TwoTower, rows, state

from tfrs_negatives._keras import keras

EPOCHS = 3


class KillAfter(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) >= self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


def main(result, backup=None, kill_after=None):
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    if config:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = TwoTower()
        model.compile(keras.optimizers.SGD(0.2, momentum=0.9))
    callbacks = []
    if backup:
        callbacks.append(keras.callbacks.BackupAndRestore(backup))
    if kill_after:
        callbacks.append(KillAfter(int(kill_after)))
    history = model.fit(rows(), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    # Metrics are added up over workers when read: all must read them.
    named = {f"state{i}": value for i, value in enumerate(state(model))}
    if config.get("task", {}).get("index", 0) == 0:
        np.savez(result, loss=history.history["loss"][-1], **named)


if __name__ == "__main__":
    main(*sys.argv[1:])
