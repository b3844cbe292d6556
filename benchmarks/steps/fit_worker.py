"""`model.fit` of one subject, in a process of its own, going on when told to.

Arguments: a task, an optimizer (names of `two_towers`) and "fit" or "bare": `fit` over
the input pipeline, or the same step on batches in memory, called by itself.
"""

import itertools
import os
import sys
import threading
import traceback

import tensorflow as tf

from benchmarks.common import worker
from benchmarks.steps import two_towers
from benchmarks.steps.problem import Problem
from tfrs_negatives._keras import keras


class Steps(keras.callbacks.Callback):
    """Holds `fit` after each step until another is asked for, by another thread.

    A step is all that `fit` does from the end of one to the end of the next.
    """

    def __init__(self):
        super().__init__()
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def on_train_batch_end(self, batch, logs=None):
        self.loss = float(logs["loss"])
        self._done.release()
        self._go.acquire()

    def next(self):
        """Runs a step and returns its loss."""
        self._go.release()
        self._done.acquire()
        return self.loss

    def first(self):
        """Waits for the first step."""
        self._done.acquire()


def fitting_step(model, problem):
    """A function that runs the next step of a `fit` that does not end."""
    steps = Steps()

    def fit():
        try:
            batches = two_towers.batches(problem)
            model.fit(batches, steps_per_epoch=2**31, verbose=0, callbacks=[steps])
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # Else the other thread would wait for ever.

    threading.Thread(target=fit, daemon=True).start()
    steps.first()
    return steps.next


def bare_step(model, problem):
    """A function that trains on batches in memory, one after the other."""
    batches = [
        {name: tf.constant(ids) for name, ids in batch.items()}
        for batch in problem.batches_in_memory()
    ]
    step, turns = two_towers.bare_step(model), itertools.cycle(batches)
    return lambda: float(step(next(turns)))


def main(task, optimizer, way, *sizes):
    problem = Problem(*map(int, sizes))
    model = two_towers.compiled(problem, task, optimizer)
    model.start_from(problem.tables())
    step = {"fit": fitting_step, "bare": bare_step}[way](model, problem)
    worker.answer(step)
    os._exit(0)  # `fit` waits in its thread.


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:])
