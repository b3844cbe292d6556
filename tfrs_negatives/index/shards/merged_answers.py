"""Answers of several shards as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def merged(
    answers: Sequence[Mapping[str, np.ndarray]], k: int
) -> dict[str, np.ndarray]:
    """The best k of what shards found, which are the best of all items they have.

    An item that is among the best k of all is among the best k of its shard. So where
    shards are exact, this is too.

    Args:
      answers: Of one shard each: "ids", "scores" `[B, k]`, descending, -inf where there
        are no more, and payload `[B, k, ...]`.
      k: How many.

    Returns:
      The same of all. Equal scores come in the order of `answers`.
    """
    scores = np.concatenate([answer["scores"] for answer in answers], axis=1)
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows = np.arange(len(scores))[:, np.newaxis]
    return {
        name: np.concatenate([answer[name] for answer in answers], axis=1)[rows, places]
        for name in answers[0]
    }
