"""What teachers rank highest for each user, as targets of `smoothed_towers.py`.

Two that know of different things: EASE^R weighs items against each other over the whole
catalogue, neighbours are what most often comes with single items.
"""

import pathlib

import numpy as np

from benchmarks.quality import shared_work
from tfrs_negatives import teachers

NEIGHBOURS = 100  # Of an item.
SOURCES = [__file__, *sorted(pathlib.Path(teachers.__file__).parent.glob("*.py"))]


def suggestions(train, setting):
    """The targets of both teachers.

    Args:
      train: `splits.Interactions`.
      setting: `l2` of EASE^R; `suggestions`, how many items a user; `sharpness`, a
        power.

    Returns:
      Dict of items that a user lacks, "suggested", `[num_users, suggestions]` int32,
      and of each one's share, "shares", of the same shape, float32, as
      `teachers.blend` has them. A user's shares add to 1, or to 0 where no teacher
      knows of anything.
    """
    number = setting["suggestions"]
    # All but the power, of which a search tries several.
    best = shared_work.once(
        lambda: highest(train, setting["l2"], number),
        SOURCES,
        [train.users, train.items],
        l2=setting["l2"],
        number=number,
        neighbours=NEIGHBOURS,
    )
    histories = train.histories()
    tables = [
        teachers.Suggestions(histories.user_ids, ids, scores)
        for ids, scores in zip(best["ids"], best["scores"], strict=True)
    ]
    blended = teachers.blend(
        tables, histories, number, sharpness=setting["sharpness"], progress=False
    )
    return {
        "suggested": blended.item_ids.astype(np.int32),
        "shares": blended.weights,
    }


def highest(train, l2, number):
    """What each teacher scores highest of the items that a user lacks.

    Returns:
      Dict of "ids", `[2, num_users, number]` int32, and "scores" of at least 0, of the
      same shape, float32.
    """
    histories = train.histories()
    found = [
        teacher.fit(histories, progress=False).top(histories, number, progress=False)
        for teacher in (teachers.ItemNeighbours(NEIGHBOURS), teachers.EASE(l2))
    ]
    ids, scores = map(np.stack, zip(*found, strict=True))
    return {"ids": ids.astype(np.int32), "scores": scores}
