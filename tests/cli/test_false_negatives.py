"""In-batch false-negative rates that a model's task counts, against loops."""

import numpy as np
import pytest

from tfrs_negatives.cli import arguments
from tfrs_negatives.data import row_buckets
from tfrs_negatives.recommender import request_batches
from tfrs_negatives.recommender.time_split import Split
from tfrs_negatives.recommender.training_rows import TrainingRows

pytestmark = pytest.mark.usefixtures("keras_2")


@pytest.fixture
def make_split(tmp_path):
    """Makes a split, whose rows are in the order of the columns."""

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
        return Split(users, items, None, rows, None, None, None)

    return make


def chosen_rows(split, size):
    """Rows of each batch of the first epoch."""
    return list(request_batches.request_batches(split.rows, size, 2, epoch=0))


def oracle(split, chosen, keys, same_item=True, shared=True):
    """Rates over batches of rows, by loops.

    Shared positives are the items of rows that share a key with the row.
    """
    every = np.concatenate(list(split.rows.windows()))
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


def measured(split, size, seed=2, change=None, knows_positives=False):
    """What the command reports of a model that has not been trained."""
    from tfrs_negatives.cli import compared_models, false_negatives

    options = arguments.parse(["train", "--dim", "4", "--num-negatives", "0"])
    model = compared_models.right_negatives_model(split, options, seed)
    assert model.knows_positives
    model.knows_positives = knows_positives
    if change:
        change(model)
    return false_negatives.false_negative_rates(model, split, size, seed)


@pytest.mark.parametrize(
    "keys, strings", [(("user",), False), (("user", "request"), True)]
)
def test_rates_equal_loops(make_split, keys, strings):
    split = make_split(shared_requests=len(keys) == 2, strings=strings)
    found = measured(split, 16)
    chosen = chosen_rows(split, 16)
    expected = oracle(split, chosen, keys)
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0 < expected[1] < expected[0]


def without_keys(model):
    model.keys = ()
    without_shared_positives(model)


def without_shared_positives(model):
    model.options = {**model.options, "mask_shared_positives": False}


def test_known_positives_leave_none(make_split):
    split = make_split()
    found = measured(split, 16, knows_positives=True)
    assert found == (pytest.approx(oracle(split, chosen_rows(split, 16), ())[0]), 0)


def without_both(model):
    without_shared_positives(model)
    model.options = {**model.options, "remove_accidental_hits": False}


@pytest.mark.parametrize(
    "change, keys, same_item, shared",
    [
        (without_keys, (), True, False),
        (without_shared_positives, ("user",), True, False),
        (without_both, ("user",), False, False),
    ],
)
def test_a_mask_that_is_off_shows(make_split, change, keys, same_item, shared):
    split = make_split()
    found = measured(split, 16, change=change)
    chosen = chosen_rows(split, 16)
    expected = oracle(split, chosen, keys, same_item, shared)
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected[1] > oracle(split, chosen, ("user",))[1]


def test_users_of_any_number_are_masked_alike(make_split):
    expected = measured(make_split(), 16)
    for shift in (-104, -(2**62)):
        assert measured(make_split(shift=shift), 16) == expected


def test_a_sample_of_many_batches_is_spread_over_them(make_split, monkeypatch):
    from tfrs_negatives.cli import false_negatives

    split = make_split()
    monkeypatch.setattr(false_negatives, "_NUM_BATCHES", 4)
    chosen = chosen_rows(split, 10)[0:8:2]
    expected = oracle(split, chosen, ("user",))
    assert measured(split, 10) == pytest.approx(expected, rel=1e-6)


def test_rows_of_many_windows(make_split, monkeypatch):
    monkeypatch.setattr(row_buckets, "HELD_ROWS", 20)
    monkeypatch.setattr(row_buckets, "WINDOW_ROWS", 25)
    split = make_split()
    assert len(list(split.rows.windows())) > 2
    expected = oracle(split, chosen_rows(split, 16), ("user",))
    assert measured(split, 16) == pytest.approx(expected, rel=1e-6)


def test_no_pair_left(make_split):
    ones = np.zeros(4, np.int64)
    split = make_split(user=ones, item=np.arange(4) % 2, request=ones)
    assert measured(split, 4) == (1.0, 0.0)
