"""Slow, obvious ranks and measures in float64, sharing nothing with the package."""

import math

import numpy as np


def ranked_ids(query, candidates, ids, positives, excluded=()):
    """All ids that may answer, best first; of equal scores positives come last."""
    scores = {
        name: math.fsum(float(a) * float(b) for a, b in zip(query, row, strict=True))
        for name, row in zip(ids, candidates, strict=True)
    }
    left = [n for n in ids if n in positives or n not in excluded]
    return sorted(left, key=lambda name: (-scores[name], name in positives))


def measure(name, ranking, positives, k):
    """One measure of one ranked list; positives are distinct."""
    hits = [place + 1 for place, i in enumerate(ranking[:k]) if i in positives]
    if name == "hit_rate":
        return float(len(hits) > 0)
    if name == "recall":
        return len(hits) / len(positives)
    if name == "mrr":
        return 1 / hits[0] if hits else 0.0
    if name == "ndcg":
        ideal = sum(1 / math.log2(1 + r) for r in range(1, min(len(positives), k) + 1))
        return sum(1 / math.log2(1 + r) for r in hits) / ideal
    raise ValueError(name)


def means(names, ks, rankings, positives, weights=None, counted=lambda item: True):
    """`{"measure@k": weighted mean over queries with positives that are counted}`."""
    weights = np.ones(len(rankings)) if weights is None else weights
    result = {}
    for name in names:
        for k in ks:
            values, used = [], []
            for ranking, own, weight in zip(rankings, positives, weights, strict=True):
                own = {item for item in own if counted(item)}
                if own:
                    values.append(measure(name, ranking, own, k))
                    used.append(weight)
            result[f"{name}@{k}"] = np.average(values, weights=used)
    return result
