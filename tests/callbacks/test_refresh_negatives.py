import ctypes
import pathlib
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import tensorflow as tf
from refresh_model import (
    ITEMS,
    NAMES,
    USERS,
    WIDTH,
    candidates,
    compiled,
    hardest,
    interactions,
    queries,
    refresher,
    sampler,
)

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.samplers import Mined


class Recorder(keras.callbacks.Callback):
    """Notes the table, its step and what would be hardest, before each batch."""

    def __init__(self, mined):
        super().__init__()
        self.mined, self.tables, self.refreshed_at, self.best = mined, [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.tables.append(self.mined.table.numpy())
        self.refreshed_at.append(int(self.mined.refreshed_at.numpy()))
        # Under Keras 3 the model is built by its first batch.
        self.best.append(hardest(self.model) if self.model.user_tower.built else None)


def fit(model, mined, steps, *callbacks, epochs=1, batch_size=8):
    return model.fit(
        interactions(mined, steps, batch_size),
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )


def test_three_rounds_reach_a_traced_step():
    mined, model = sampler(), compiled()
    recorder = Recorder(mined)
    history = fit(
        model, mined, 4, refresher(mined, model, every_epochs=1), recorder, epochs=4
    )
    traces = model.num_traces
    assert traces <= 2 + IS_KERAS_3  # Which builds the model first.
    assert recorder.refreshed_at == [0] * 4 + [4] * 4 + [8] * 4 + [12] * 4
    for first in (4, 8, 12):
        # What the NumPy search finds with the weights that the epoch starts with.
        np.testing.assert_array_equal(recorder.tables[first], recorder.best[first])
    # And every step saw items of the table it should.
    assert len(model.seen) == 16
    for step, pairs in enumerate(model.seen):
        table = recorder.tables[step]
        assert pairs <= {(u, i) for u in range(USERS) for i in table[u]}
    assert len({table.tobytes() for table in recorder.tables}) == 4
    logs = history.history
    assert logs["refresh_age"] == [0, 0, 0, 0]
    assert all(0 < share <= 1 for share in logs["refresh_changed"])
    assert all(seconds > 0 for seconds in logs["refresh_seconds"])
    assert logs["refresh_short_rows"] == [0] * 4
    fit(model, mined, 4, refresher(mined, model, every_epochs=1))
    assert model.num_traces == traces


def test_every_steps():
    mined, model = sampler(), compiled()
    recorder = Recorder(mined)
    history = fit(
        model, mined, 10, refresher(mined, model, every_steps=3), recorder, epochs=2
    )
    expected = [0] * 3 + [3] * 3 + [6] * 3 + [9] * 3 + [12] * 3 + [15] * 3 + [18] * 2
    assert recorder.refreshed_at == expected
    assert history.history["refresh_age"] == [1, 2]


def test_every_second_epoch_and_partial_batches():
    mined, model = sampler(), compiled()
    recorder = Recorder(mined)
    fit(model, mined, 3, refresher(mined, model, every_epochs=2), recorder, epochs=5)
    assert recorder.refreshed_at == [0] * 6 + [6] * 6 + [12] * 3


def test_mining_options_and_positives():
    mined, model = sampler(), compiled()
    positives = [[u, u + 1, u + 2] for u in range(USERS)]
    callback = refresher(
        mined,
        model,
        every_steps=1,
        positives=[NAMES[row] for row in positives],
        range_min=2,
        num_negatives=9,
    )
    callback.refresh(step=5)
    best = hardest(model, ITEMS, positives)
    np.testing.assert_array_equal(mined.table, best[:, 2:11])
    assert mined.refreshed_at.numpy() == 5


def test_uniform_draws_change_with_the_step():
    mined, model = sampler(), compiled()
    options = {"sampling": "uniform", "range_max": 20, "every_steps": 1}
    callback = refresher(mined, model, **options)
    tables = []
    for step in (1, 2, 1):
        callback.refresh(step)
        tables.append(mined.table.numpy())
    assert (tables[0] != tables[1]).any()
    np.testing.assert_array_equal(tables[0], tables[2])


def item_sampler():
    rows = NAMES[::-2]
    table = np.tile(NAMES[:WIDTH], [len(rows), 1])
    features = {"name": NAMES}
    return Mined(features, table, "name", row_ids=rows, id_feature="name")


@pytest.mark.parametrize("margin", [None, 0.5])
def test_item_side(margin):
    """Rows are items; a margin lies below the item's product with itself."""
    model = compiled()
    mined = item_sampler()
    callback = RefreshNegatives(
        mined,
        BruteForce(),
        candidates(),
        model.item_tower,
        every_steps=1,
        relative_margin=margin,
    )
    callback.refresh()
    items = model.item_tower.get_weights()[0].astype(float)
    expected = np.full([ITEMS // 2, WIDTH], -1)
    for row, item in enumerate(range(ITEMS)[::-2]):
        scores = items @ items[item]
        limit = np.inf if margin is None else (1 - margin) * scores[item]
        order = np.argsort(-scores, kind="stable")
        hard = [i for i in order if i != item and scores[i] <= limit][:WIDTH]
        expected[row, : len(hard)] = hard
    np.testing.assert_array_equal(mined.table, expected)


def test_known_positives_of_items_are_beside_each_item_itself():
    model, mined = compiled(), item_sampler()
    rows = range(ITEMS)[::-2]
    known = [[0, row // 2] if row % 3 else [] for row in rows]
    forms = [
        [NAMES[row] for row in known],
        tf.ragged.constant([NAMES[row].tolist() for row in known], dtype=tf.string),
    ]
    for positives in forms:
        mined.assign(np.tile(NAMES[:WIDTH], [len(rows), 1]))
        callback = RefreshNegatives(
            mined,
            BruteForce(),
            candidates(),
            model.item_tower,
            every_steps=1,
            positives=positives,
        )
        callback.refresh()
        items = model.item_tower.get_weights()[0].astype(float)
        for place, row in enumerate(rows):
            order = np.argsort(-(items @ items[row]), kind="stable")
            hard = [i for i in order if i not in [row, *known[place]]]
            np.testing.assert_array_equal(mined.table[place], hard[:WIDTH])


@pytest.mark.parametrize(
    ("positives", "message"),
    [
        ([["item 1"]] * 3, r"`positives` must have one row per query \(15\)"),
        ([[1]] * (ITEMS // 2), "`positives` must hold strings.*received integers"),
    ],
)
def test_bad_positives_of_items(positives, message):
    model, mined = compiled(), item_sampler()
    before = mined.table.numpy()
    callback = RefreshNegatives(
        mined,
        BruteForce(),
        candidates(),
        model.item_tower,
        every_steps=1,
        positives=positives,
    )
    with pytest.raises(ValueError, match=message):
        callback.refresh()
    np.testing.assert_array_equal(mined.table, before)


def test_a_table_of_short_rows_does_not_narrow_the_next():
    model, mined = compiled(), sampler()
    refresher(mined, model, every_steps=1).refresh()  # Builds the towers.
    users, items = (t.get_weights()[0] for t in (model.user_tower, model.item_tower))
    # Of no row more than two items pass.
    limit = np.sort(users @ items.T)[:, 2].min() - 1e-6
    callback = refresher(mined, model, every_steps=1, max_score=limit)
    callback.refresh()
    assert limit > -1 and mined.table.numpy().shape[1] <= 2
    # Now all of them do, with scores from -1 to -30.
    model.user_tower.set_weights([np.full_like(users, -0.25)])
    model.item_tower.set_weights([np.full_like(items, 1) * np.c_[1 : ITEMS + 1]])
    callback.refresh()
    np.testing.assert_array_equal(mined.table, hardest(model))


def test_an_empty_table_is_filled():
    model, mined = compiled(), sampler([[]] * USERS)
    with pytest.raises(ValueError, match="table is empty.*`num_negatives`"):
        refresher(mined, model, every_steps=1)
    refresher(mined, model, every_steps=1, num_negatives=WIDTH).refresh()
    np.testing.assert_array_equal(mined.table, hardest(model))


def test_repeated_candidates_are_told_before_training():
    model, mined = compiled(), sampler()
    given = arguments(every_steps=1)
    given["candidates"] = given["candidates"].concatenate(given["candidates"].take(1))
    with pytest.raises(ValueError, match="ids of candidates.*7 ids are repeated"):
        fit(model, mined, 1, RefreshNegatives(**given))


def test_ranks_that_top_never_keeps_are_told():
    for options in ({"range_max": 9, "range_min": 2}, {"range_max": 7}):
        with pytest.warns(UserWarning, match=r'`sampling="top"` keeps the best 6'):
            RefreshNegatives(**arguments(every_steps=1, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (
            {"range_min": 2},
            {"range_min": 2, "range_max": 8},
            {"range_max": 9, "sampling": "uniform"},
            {"range_max": 9, "max_score": 0.5},
            {"range_max": 9, "num_negatives": 9},
        ):
            RefreshNegatives(**arguments(every_steps=1, **options))


def test_with_scann():
    mined, model = sampler(), compiled()
    callback = RefreshNegatives(
        mined,
        ScaNN(),
        candidates(),
        model.item_tower,
        queries(),
        model.user_tower,
        every_steps=2,
    )
    fit(model, mined, 4, callback)
    np.testing.assert_array_equal(mined.table, hardest(model))


def test_towers_are_traced_once():
    mined, model = sampler(), compiled()
    traces = []

    def tower(rows):
        traces.append(rows.shape)
        return model.item_tower(rows)

    callback = RefreshNegatives(
        mined,
        BruteForce(),
        candidates(),
        tower,
        queries(),
        model.user_tower,
        every_steps=1,
    )
    fit(model, mined, 4, callback)
    # Called on a first batch, which builds it, and traced for batches of any size.
    assert traces == [[7], [None]]


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


@pytest.mark.parametrize("bound", [2, 4, None])
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


def test_a_restart_goes_on_where_the_checkpoint_was(tmp_path):
    mined, model = sampler(), compiled()
    fit(model, mined, 5, refresher(mined, model, every_steps=3))
    assert mined.refreshed_at.numpy() == 3
    step = tf.Variable(5, dtype=tf.int64)
    path = tf.train.Checkpoint(sampler=mined, step=step).save(tmp_path / "checkpoint")
    table = mined.table.numpy()

    mined, model, step = sampler(), compiled(), tf.Variable(0, dtype=tf.int64)
    tf.train.Checkpoint(sampler=mined, step=step).restore(path).assert_consumed()
    assert (mined.table.numpy() == table).all()
    model.optimizer.iterations.assign(step)
    recorder = Recorder(mined)
    fit(model, mined, 5, refresher(mined, model, every_steps=3), recorder)
    # Steps 6 to 10: due after step 6 and after step 9.
    assert recorder.refreshed_at == [3, 6, 6, 6, 9]


def test_a_refresh_cut_off_by_a_restart_is_made_at_once():
    """The process died during step 9's refresh; the table of step 3 was saved."""
    mined, model = sampler(), compiled()
    mined.refreshed_at.assign(3)
    model.optimizer.iterations.assign(20)
    recorder = Recorder(mined)
    fit(model, mined, 3, refresher(mined, model, every_steps=6), recorder)
    assert recorder.refreshed_at == [3, 21, 21]


def test_a_table_of_a_later_run_does_not_stop_the_schedule():
    mined, model = sampler(), compiled()
    mined.refreshed_at.assign(1000)
    fit(model, mined, 3, refresher(mined, model, every_steps=2))
    assert mined.refreshed_at.numpy() == 2


@pytest.mark.parametrize("in_background", [False, True])
def test_under_two_replicas(two_replicas, in_background):
    """The towers' variables are mirrored, and the table is one."""
    mined = sampler()
    with two_replicas.scope():
        model = compiled()
    callback = refresher(mined, model, every_steps=2, background=in_background)
    fit(model, mined, 3, callback)
    assert mined.refreshed_at.numpy() == 2
    assert len({item for row in mined.table.numpy() for item in row}) > WIDTH
    callback.refresh(3)
    np.testing.assert_array_equal(mined.table, hardest(model))


@pytest.mark.slow
@pytest.mark.parametrize("index_class", ["BruteForce", "ScaNN"])
def test_memory_does_not_grow_over_twenty_refreshes(index_class):
    script = pathlib.Path(__file__).with_name("refresh_memory.py")
    result = subprocess.run(
        [sys.executable, script, index_class],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    # One copy of the corpus kept by each refresh would be 20.
    assert float(result.stdout.split("copies:")[1]) < 6


BAD = {
    "no schedule": ({}, "Pass one of `every_steps` and `every_epochs`"),
    "two schedules": (
        {"every_steps": 1, "every_epochs": 1},
        "Pass one of `every_steps` and `every_epochs`",
    ),
    "every_steps": ({"every_steps": 0}, "`every_steps` must be an integer"),
    "every_epochs": ({"every_epochs": 0.5}, "`every_epochs` must be an integer"),
    "on_error": ({"every_steps": 1, "on_error": "stop"}, "`on_error` must be one of"),
    "a bound alone": ({"every_steps": 1, "max_staleness": 9}, "in the background"),
    "a bound below the period": (
        {"every_steps": 5, "max_staleness": 4, "background": True},
        "`max_staleness` must be an integer of at least 5",
    ),
    "width": ({"every_steps": 1, "num_negatives": 0}, "`num_negatives` must be"),
    "sampler": ({"every_steps": 1, "sampler": 3}, "`sampler` must be a samplers.Mined"),
    "index": ({"every_steps": 1, "index": print}, "`index` must be a BruteForce"),
    "query tower": ({"every_steps": 1, "query_tower": None}, "go together"),
    "range": (
        {"every_steps": 1, "range_min": 10, "range_max": 5},
        "`range_min` must be less than `range_max`, received 10 and 5",
    ),
    "range_max": ({"every_steps": 1, "range_max": 0}, "`range_max` must be an integer"),
    "sampling": ({"every_steps": 1, "sampling": "best"}, "`sampling` must be one of"),
    "batch_size": ({"every_steps": 1, "batch_size": 0}, "`batch_size` must be an"),
    "seed": ({"every_steps": 1, "seed": -1}, "`seed` must be an integer"),
    "max_score": ({"every_steps": 1, "max_score": "5"}, "`max_score` must be a number"),
    "score_function": (
        {"every_steps": 1, "score_function": 3},
        "`score_function` must be a function",
    ),
    "size of margin": (
        {
            "every_steps": 1,
            "relative_margin": -1.0,
            "queries": None,
            "query_tower": None,
        },
        "`relative_margin` must be a number of at least 0",
    ),
    "margin of other scores": (
        {
            "every_steps": 1,
            "relative_margin": 0.1,
            "score_function": lambda rows, ids: np.zeros(ids.shape),
            "queries": None,
            "query_tower": None,
        },
        "`score_function` cannot be compared with",
    ),
    "margin": ({"every_steps": 1, "absolute_margin": 0.1}, "only the item side"),
    "single candidates": (
        {"every_steps": 1, "candidates": tf.data.Dataset.range(3)},
        "`candidates` must be a tf.data.Dataset of batches",
    ),
    "endless queries": (
        {"every_steps": 1, "queries": queries().repeat()},
        "`queries` must be finite",
    ),
    "no tower": ({"every_steps": 1, "candidate_tower": 3}, "must be a Keras layer"),
}


def arguments(**changed):
    mined, model = sampler(), compiled()
    return {
        "sampler": mined,
        "index": BruteForce(),
        "candidates": candidates(),
        "candidate_tower": model.item_tower,
        "queries": queries(),
        "query_tower": model.user_tower,
        **changed,
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        RefreshNegatives(**arguments(**changed))


@pytest.mark.parametrize("option", ["range", "positive_scores", "progress"])
def test_unknown_options(option):
    with pytest.raises(TypeError, match=f"takes no option .'{option}'"):
        RefreshNegatives(**arguments(every_steps=1, **{option: 1}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": queries().take(2)}, "2 of 12 rows are missing"),
        ({"queries": queries().repeat(2)}, "0 of 12 rows are missing and 12 occur"),
        ({"queries": queries().take(0)}, "`queries` is empty"),
        ({"candidates": candidates().take(2)}, None),
        ({"range_min": 30}, "number of items in the index"),
        ({"positives": [["item 1"]] * 3}, "`positives` must have one row per query"),
        ({"positives": [["item x"]] * USERS}, "does not have, such as .*item x"),
        ({"candidate_tower": lambda rows: tf.zeros([3, 4])}, "one id for each"),
    ],
)
def test_bad_refreshes_leave_the_table(changed, message):
    given = arguments(every_steps=1, **changed)
    callback, table = RefreshNegatives(**given), given["sampler"].table.numpy()
    if message is None:
        # A part of the corpus is enough to mine from.
        callback.refresh()
        assert given["sampler"].table.numpy().max() < 14
        return
    with pytest.raises(ValueError, match=message):
        callback.refresh()
    assert (given["sampler"].table.numpy() == table).all()
