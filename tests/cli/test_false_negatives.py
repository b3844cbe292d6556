"""In-batch false-negative rates that a model's task counts, against loops."""

import dataclasses

import numpy as np
import pytest

from tfrs_negatives.data import row_buckets
from tfrs_negatives.recommender import training_batches
from tfrs_negatives.recommender.training_rows import TrainingRows
from tfrs_negatives.recommender.training_set import TrainingSet

pytestmark = pytest.mark.usefixtures("keras_2")


@pytest.fixture
def make_set(tmp_path):
    """Makes a training set, whose rows are in the order of the columns."""

    def make(shared_requests=False, strings=False, shift=0, num_rows=90, **columns):
        rng = np.random.default_rng(0)
        user = rng.integers(0, 8, num_rows)
        request = user * 3 + rng.integers(0, 3, num_rows)
        if shared_requests:
            request = rng.integers(0, 9, num_rows)
        item = rng.integers(0, 15, num_rows)
        users, items = np.arange(8) + 100 + shift, np.arange(15) + 40
        if strings:
            users, items = users.astype(str), items.astype(str)
            users, items = users.astype(object), items.astype(object)
        columns = columns or {"user": user, "item": item, "request": request}
        rows = TrainingRows.of(tmp_path, **columns)
        return TrainingSet(users, items, None, rows, None)

    return make


def chosen_rows(training, size):
    """Rows of each batch of the first epoch."""
    return list(training_batches.batches(training.rows, size, 2, epoch=0))


def oracle(training, chosen, keys, same_item=True, shared=True):
    """Rates over batches of rows, by loops.

    Shared positives are the items of rows that share a key with the row.
    """
    every = np.concatenate(list(training.rows.windows()))
    known = set(zip(every["user"].tolist(), every["item"].tolist(), strict=True))
    counts = {"pairs": 0, "false": 0, "kept": 0, "kept false": 0}
    for rows in chosen:
        for i in rows:
            for k in rows:
                if i["row"] == k["row"]:
                    continue
                false = (int(i["user"]), int(k["item"])) in known
                masked = (same_item and i["item"] == k["item"]) or any(
                    i[key] == k[key] for key in keys
                )
                masked |= shared and any(
                    r["item"] == k["item"] and any(r[key] == i[key] for key in keys)
                    for r in rows
                )
                counts["pairs"] += 1
                counts["false"] += false
                counts["kept"] += not masked
                counts["kept false"] += false and not masked
    return (
        counts["false"] / counts["pairs"],
        counts["kept false"] / counts["kept"],
    )


def measured(training, size, monkeypatch, masks_known=False, **options):
    """What the command reports of a model that has not been trained."""
    from tfrs_negatives import tasks
    from tfrs_negatives.cli import false_negatives
    from tfrs_negatives.recommender import Settings, recipe
    from tfrs_negatives.recommender.towers_of import FeatureTables, Towers

    settings = Settings(dim=4, num_negatives=0, batch_size=size)
    found = recipe.Recipe.of(training, settings)
    assert found.masks_known
    keys = ("user", *found.query_keys)
    found = dataclasses.replace(
        found,
        masks_known=masks_known,
        query_keys=options.pop("query_keys", keys),
    )
    monkeypatch.setattr(recipe.Recipe, "of", lambda *_: found)
    retrieval = tasks.Retrieval
    monkeypatch.setattr(
        recipe.tasks, "Retrieval", lambda **given: retrieval(**{**given, **options})
    )
    towers = Towers(training, FeatureTables(), settings, 2)
    rates = false_negatives.false_negative_rates(towers, settings, seed=2)
    monkeypatch.undo()
    return rates


@pytest.mark.parametrize(
    "keys, strings", [(("user",), False), (("user", "request"), True)]
)
def test_rates_equal_loops(make_set, monkeypatch, keys, strings):
    training = make_set(shared_requests=len(keys) == 2, strings=strings)
    found = measured(training, 16, monkeypatch)
    chosen = chosen_rows(training, 16)
    expected = oracle(training, chosen, keys)
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0 < expected[1] < expected[0]


def test_known_positives_leave_none(make_set, monkeypatch):
    training = make_set()
    found = measured(training, 16, monkeypatch, masks_known=True)
    assert found == (
        pytest.approx(oracle(training, chosen_rows(training, 16), ())[0]),
        0,
    )


KEPT = {"mask_shared_positives": False}


@pytest.mark.parametrize(
    "options, keys, same_item, shared",
    [
        ({"query_keys": (), **KEPT}, (), True, False),
        (KEPT, ("user",), True, False),
        ({"remove_accidental_hits": False, **KEPT}, ("user",), False, False),
    ],
)
def test_a_mask_that_is_off_shows(
    make_set, monkeypatch, options, keys, same_item, shared
):
    training = make_set()
    found = measured(training, 16, monkeypatch, **options)
    chosen = chosen_rows(training, 16)
    expected = oracle(training, chosen, keys, same_item, shared)
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected[1] > oracle(training, chosen, ("user",))[1]


def test_users_of_any_number_are_masked_alike(make_set, monkeypatch):
    expected = measured(make_set(), 16, monkeypatch)
    for shift in (-104, -(2**62)):
        assert measured(make_set(shift=shift), 16, monkeypatch) == expected


def test_a_sample_of_many_batches_is_spread_over_them(make_set, monkeypatch):
    from tfrs_negatives.cli import false_negatives

    training = make_set()
    monkeypatch.setattr(false_negatives, "_NUM_BATCHES", 4)
    chosen = chosen_rows(training, 10)[0:8:2]
    expected = oracle(training, chosen, ("user",))
    assert measured(training, 10, monkeypatch) == pytest.approx(expected, rel=1e-6)


def test_rows_of_many_windows(make_set, monkeypatch):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 20)
    monkeypatch.setattr(row_buckets, "WINDOW_ROWS", 25)
    training = make_set()
    assert len(list(training.rows.windows())) > 2
    expected = oracle(training, chosen_rows(training, 16), ("user",))
    assert measured(training, 16, monkeypatch) == pytest.approx(expected, rel=1e-6)


def test_no_pair_left(make_set, monkeypatch):
    ones = np.zeros(4, np.int64)
    training = make_set(user=ones, item=np.arange(4) % 2, request=ones)
    assert measured(training, 4, monkeypatch) == (1.0, 0.0)
