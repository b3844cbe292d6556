"""The first step of a `fit`, in a process of its own that has run nothing before."""

import sys
import time

from benchmarks.common import worker
from benchmarks.steps import two_towers
from benchmarks.steps.problem import Problem
from tfrs_negatives._keras import keras


class Times(keras.callbacks.Callback):
    """Notes when each step ends."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


def main(task, optimizer, *sizes):
    problem = Problem(*map(int, sizes))
    batches = two_towers.batches(problem)
    model = two_towers.compiled(problem, task, optimizer)
    times = Times()
    start = time.perf_counter()
    model.fit(batches, steps_per_epoch=3, verbose=0, callbacks=[times])
    first, second, third = times.ends
    worker.say(first=first - start, second=second - first, third=third - second)


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:])
