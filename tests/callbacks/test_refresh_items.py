"""The item side: rows of the table are items."""

import numpy as np
import pytest
import tensorflow as tf
from refresh_model import (
    ITEMS,
    NAMES,
    WIDTH,
    candidates,
    compiled,
)

from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.index import BruteForce
from tfrs_negatives.samplers import Mined


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
