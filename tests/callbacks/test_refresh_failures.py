"""Refreshes in the background, and what a failed one leaves."""

import ctypes
import threading
import time

import numpy as np
import pytest
from grids import some_of
from refresh_model import (
    Recorder,
    candidates,
    compiled,
    fit,
    interactions,
    queries,
    refresher,
    sampler,
)

from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.index import BruteForce


class Gate(BruteForce):
    """An index that waits in `index` until it may go on, and fails if told to."""

    def __init__(self):
        super().__init__()
        # Keras must not track these.
        self.__dict__["entered"] = threading.Event()
        self.__dict__["go_on"] = threading.Event()
        self.__dict__["failures"] = []

    def index(self, candidates, identifiers=None):
        self.entered.set()
        # Short waits, so that an exception put into the thread is raised soon.
        while not self.go_on.wait(0.002):
            pass
        if self.failures:
            raise self.failures.pop()
        return super().index(candidates, identifiers)


def gated(mined, model, **options):
    gate = Gate()
    callback = RefreshNegatives(
        mined,
        gate,
        candidates(),
        model.item_tower,
        queries(),
        model.user_tower,
        **options,
    )
    return gate, callback


class At(keras.callbacks.Callback):
    """Does something after a number of steps."""

    def __init__(self, actions):
        super().__init__()
        self.actions, self.steps = actions, 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps in self.actions:
            self.actions[self.steps]()


def test_training_goes_on_during_a_refresh_in_the_background():
    mined, model = sampler(), compiled()
    gate, callback = gated(mined, model, every_steps=2, background=True)
    recorder = Recorder(mined)
    before = mined.table.numpy()
    fit(model, mined, 9, callback, recorder, At({9: gate.go_on.set}))
    # It began after two steps, and ended when the ninth had been made.
    assert recorder.refreshed_at == [0] * 9
    assert all((table == before).all() for table in recorder.tables)
    assert mined.refreshed_at.numpy() == 2
    assert (mined.table.numpy() != before).any()
    assert threading.active_count() == len(
        [t for t in threading.enumerate() if t.name != "refresh-negatives"]
    )


@pytest.mark.parametrize("bound", some_of([2, 4, None], fast=[2, None]))
def test_staleness_is_bounded(bound):
    mined, model = sampler(), compiled()
    gate, callback = gated(
        mined, model, every_steps=2, background=True, max_staleness=bound
    )
    recorder = Recorder(mined)

    class Late(threading.Thread):
        """Lets the first refresh end long after the steps could have been made."""

        def run(self):
            gate.entered.wait(30)
            time.sleep(0.7)
            gate.go_on.set()

    late = Late()
    late.start()
    # The first step, which traces, is made beforehand.
    model.fit(interactions(sampler(), 1), verbose=0)
    model.optimizer.iterations.assign(0)
    fit(model, mined, 40, callback, recorder)
    late.join()
    ages = np.arange(40) - recorder.refreshed_at
    if bound is None:
        assert ages.max() > 4
    else:
        assert ages.max() == bound
    assert mined.refreshed_at.numpy() > 0


def test_a_failed_refresh_leaves_the_table_and_says_so():
    mined, model = sampler(), compiled()
    gate, callback = gated(mined, model, every_steps=2)
    gate.go_on.set()
    gate.failures.append(OSError("disk full"))
    recorder = Recorder(mined)
    message = "failed at step 2, and the table of step 0 stays: OSError: disk full"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        fit(model, mined, 6, callback, recorder)
    assert len([w for w in caught if "disk full" in str(w.message)]) == 1
    # Tried again at the next round.
    assert recorder.refreshed_at == [0, 0, 0, 0, 4, 4]
    assert (recorder.tables[3] == recorder.tables[0]).all()
    assert (recorder.tables[4] != recorder.tables[0]).any()


def test_a_failed_refresh_in_the_background():
    mined, model = sampler(), compiled()
    gate, callback = gated(mined, model, every_steps=2, background=True)
    gate.failures.append(OSError("disk full"))
    before = mined.table.numpy()
    with pytest.warns(RuntimeWarning, match="failed at step 2.*disk full"):
        fit(model, mined, 3, callback, At({3: gate.go_on.set}))
    assert (mined.table.numpy() == before).all()
    assert mined.refreshed_at.numpy() == 0


@pytest.mark.parametrize("in_background", [False, True])
def test_on_error_raise(in_background):
    mined, model = sampler(), compiled()
    gate, callback = gated(
        mined, model, every_steps=2, background=in_background, on_error="raise"
    )
    gate.go_on.set()
    gate.failures.append(OSError("disk full"))
    before = mined.table.numpy()
    with pytest.raises(RuntimeError, match="disk full"):
        fit(model, mined, 3, callback)
    assert (mined.table.numpy() == before).all()


def test_diverged_towers_are_a_failed_refresh():
    mined, model = sampler(), compiled()
    before = mined.table.numpy()
    callback = refresher(mined, model, every_steps=1)
    callback.refresh()
    before = mined.table.numpy()
    weights = model.item_tower.get_weights()[0]
    weights[3] = np.nan
    model.item_tower.set_weights([weights])
    with pytest.raises(ValueError, match="NaN or infinity for 1 of 30 rows"):
        callback.refresh(7)
    assert (mined.table.numpy() == before).all()
    assert mined.refreshed_at.numpy() == 0


def test_killing_the_thread_loses_nothing():
    """SystemExit is put into the thread while it is in the middle of a refresh."""
    mined, model = sampler(), compiled()
    gate, callback = gated(mined, model, every_steps=2, background=True)
    before = mined.table.numpy()
    tables = []

    def kill():
        assert gate.entered.wait(30)
        thread = callback._thread
        killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
        assert killed == 1
        thread.join(30)
        assert not thread.is_alive()
        tables.append(mined.table.numpy())
        gate.go_on.set()

    recorder = Recorder(mined)
    with pytest.warns(RuntimeWarning, match="failed at step 2.*SystemExit"):
        fit(model, mined, 8, callback, At({3: kill}), recorder)
    assert (tables[0] == before).all()
    # Training went on, and so did the refreshes.
    assert len(recorder.tables) == 8
    assert mined.refreshed_at.numpy() >= 4
    assert (mined.table.numpy() != before).any()
