"""Loops in float64 that say what may be mined; they share nothing with the package."""

import numpy as np


def ranked(scores):
    """Item numbers by falling score; equals in the order of the numbers."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item))


def eligible(
    scores,
    positives=(),
    range_min=0,
    range_max=None,
    max_score=None,
    absolute_margin=None,
    relative_margin=None,
    positive_score=None,
):
    """The item numbers of one query's range, best first.

    Args:
      scores: One float per item.
      positives: Item numbers.
    """
    found = [item for item in ranked(scores) if item not in set(positives)]
    found = found[:range_max]
    passed = []
    for item in found:
        score = scores[item]
        if max_score is not None and score > max_score:
            continue
        if absolute_margin is not None and score > positive_score - absolute_margin:
            continue
        if relative_margin is not None:
            if score > positive_score - relative_margin * abs(positive_score):
                continue
        passed.append(item)
    return passed[range_min:]


def table(rows, num_negatives, ids):
    """The best M of each row, or all where these are fewer, as lists of ids."""
    return [[ids[item] for item in row[:num_negatives]] for row in rows]


def integers(seed, *shape):
    """Small whole numbers: products are exact, and many are equal."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)
