"""What the callback refuses."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from refresh_model import (
    USERS,
    arguments,
    candidates,
    queries,
)

from tfrs_negatives.callbacks import RefreshNegatives


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
