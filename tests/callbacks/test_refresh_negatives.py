"""Tables that follow the towers, by steps and by epochs."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from refresh_model import (
    ITEMS,
    NAMES,
    USERS,
    WIDTH,
    Recorder,
    arguments,
    candidates,
    compiled,
    fit,
    hardest,
    queries,
    refresher,
    sampler,
)

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.index import BruteForce, ScaNN


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


@pytest.mark.scann
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
    assert recorder.refreshed_at == [20, 20, 20]


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


@pytest.mark.slow(reason="twenty refreshes in a process of its own")
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
