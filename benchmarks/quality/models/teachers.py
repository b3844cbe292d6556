"""What teachers rank highest for each user, as targets of `smoothed_towers.py`.

Two that know of different things: EASE^R (`peers/ease.py`) weighs items against each
other over the whole catalogue, neighbours are what most often comes with single items.
"""

import itertools

import numpy as np
import scipy.sparse

from benchmarks.quality import shared_work
from benchmarks.quality.peers import ease

NEIGHBOURS = 100  # Of an item.
BLOCK = 512  # Users whose scores are held at once.


def suggestions(train, setting):
    """The targets of both teachers.

    Args:
      train: `splits.Interactions`.
      setting: `l2` of EASE^R; `suggestions`, how many items a user; `sharpness`, a
        power.

    Returns:
      Dict of items that a user lacks, "suggested", `[num_users, suggestions]` int32,
      and of each one's share, "shares", of the same shape, float32. A teacher gives its
      highest scores above 0 shares in proportion to their power; these are averaged.
      A user's shares add to 1, or to 0 where no teacher knows of anything.
    """
    number = setting["suggestions"]
    best = shared_work.once(
        lambda: highest(train, setting["l2"], number),
        [__file__, ease.__file__],
        [train.users, train.items],
        l2=setting["l2"],
        number=number,
        neighbours=NEIGHBOURS,
    )
    ids = np.empty([train.num_users, number], np.int32)
    shares = np.empty(ids.shape, np.float32)
    for start in range(0, train.num_users, BLOCK):
        block = slice(start, start + BLOCK)
        total = np.zeros([len(ids[block]), train.num_items], np.float32)
        rows = np.arange(len(total))[:, None]
        for suggested, scores in zip(best["ids"], best["scores"], strict=True):
            powers = scores[block] ** setting["sharpness"]
            total[rows, suggested[block]] += normalised(powers)
        ids[block], found = largest(total, number)
        shares[block] = normalised(found)
    return {"suggested": ids, "shares": shares}


def highest(train, l2, number):
    """What each teacher scores highest of the items that a user lacks.

    Returns:
      Dict of "ids", `[2, num_users, number]` int32, and "scores" of at least 0, of the
      same shape, float32.
    """
    owned = train.matrix()
    ids = np.empty([2, train.num_users, number], np.int32)
    scores = np.empty(ids.shape, np.float32)
    teachers = neighbours(owned), ease.fit(train, {"l2": l2}, seed=0).of
    for start in range(0, train.num_users, BLOCK):
        users = np.arange(start, min(start + BLOCK, train.num_users))
        lacks = np.ones([len(users), train.num_items], bool)
        lacks[owned[users].nonzero()] = False
        for place, teacher in enumerate(teachers):
            best, found = largest(np.where(lacks, teacher(users), 0), number)
            ids[place, users], scores[place, users] = best, np.maximum(found, 0)
    return {"ids": ids, "scores": scores}


def neighbours(owned):
    """A teacher: what is near a user's items, added up over these.

    An item's nearest have the highest products with its column of D_u^-1/2 R D_i^-1/2,
    of the interactions R, much as in the graph of UltraGCN (Mao et al., CIKM 2021).
    """
    matrix = symmetric(owned)
    together = (matrix.T @ matrix).tocsr()
    together.setdiag(0)
    kept = np.zeros(together.nnz, bool)
    for start, end in itertools.pairwise(together.indptr):
        kept[start + np.argsort(-together.data[start:end])[:NEIGHBOURS]] = True
    together.data[~kept] = 0
    together.eliminate_zeros()
    return lambda users: (owned[users] @ together).toarray()


def symmetric(owned):
    """`[num_users, num_items]` sparse float32: D_u^-1/2 R D_i^-1/2."""
    users, items = (
        scipy.sparse.diags(np.maximum(np.asarray(owned.sum(axis)).ravel(), 1) ** -0.5)
        for axis in (1, 0)
    )
    return (users @ owned @ items).astype(np.float32).tocsr()


def largest(values, number):
    """Columns and values, `[rows, number]`, of the largest of each row."""
    best = np.argpartition(-values, number - 1, axis=1)[:, :number]
    return best, np.take_along_axis(values, best, 1)


def normalised(values):
    """Rows of at least 0 that add to 1, or to 0."""
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
