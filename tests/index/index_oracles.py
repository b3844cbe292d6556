"""Slow, obvious NumPy search that shares nothing with the package."""

import numpy as np


def best(
    queries,
    candidates,
    k,
    ids=None,
    exclusions=None,
    filler=-1,
    log_q=None,
    discounts=None,
):
    """The k best of each query by float64 loops: scores `[B, k]` and a list of ids.

    Equal scores: the candidate indexed first comes first. `discounts` holds what share
    of `log_q` each query takes off.
    """
    off = np.zeros(len(candidates)) if log_q is None else np.float64(log_q)
    discounts = np.zeros(len(queries)) if discounts is None else discounts
    queries, candidates = np.float64(queries), np.float64(candidates)
    ids = list(range(len(candidates)) if ids is None else ids)
    scores, found = [], []
    for row, query in enumerate(queries):
        excluded = set() if exclusions is None else set(exclusions[row])
        hits = [
            (discounts[row] * off[place] - sum(query * candidate), place)
            for place, candidate in enumerate(candidates)
            if ids[place] not in excluded
        ]
        hits = sorted(hits)[:k]
        missing = k - len(hits)
        scores.append([-score for score, _ in hits] + [-np.inf] * missing)
        found.append([ids[place] for _, place in hits] + [filler] * missing)
    return np.array(scores), found


def as_list(ids):
    """Ids of a result tensor as nested lists of Python ints, floats or str."""
    rows = ids.numpy().tolist()
    return [[i.decode() if isinstance(i, bytes) else i for i in row] for row in rows]


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def clustered(seed, num_rows, width=32, noise=0.4):
    """Points around 100 centres, which are the same for every seed."""
    centres = np.random.default_rng(7).normal(size=(100, width))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 100, num_rows)]
    return (points + noise * rng.normal(size=points.shape)).astype(np.float32)


def recall(found, queries, candidates):
    """Share of the true best rows that are among the rows `found`, `[B, k]`."""
    k = found.shape[1]
    truth = np.argsort(-queries @ candidates.T, axis=1, kind="stable")[:, :k]
    pairs = zip(found, truth, strict=True)
    return np.mean([len(set(a) & set(b)) / k for a, b in pairs])
