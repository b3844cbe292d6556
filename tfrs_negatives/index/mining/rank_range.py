"""Which of the candidates found are kept: a range of ranks, and M of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrs_negatives import _checks
from tfrs_negatives.index.mining.mining_sources import MiningSource


@dataclasses.dataclass(frozen=True)
class RankRange:
    """Which of the candidates found are eligible, and how many of them to keep."""

    num_negatives: int
    range_min: int
    range_max: int
    sampling: str
    seed: int


def check_range(options: Mapping[str, Any]) -> None:
    """Raises `ValueError` for options that no index could make right."""
    range_min, range_max = options["range_min"], options["range_max"]
    _checks.check_at_least("range_min", range_min, 0)
    if range_max is not None:
        _checks.check_at_least("range_max", range_max, 1)
        if range_min >= range_max:
            raise ValueError(
                f"`range_min` must be less than `range_max`, received {range_min} and "
                f"{range_max}."
            )
    _checks.check_choice("sampling", options["sampling"], ("uniform", "top"))
    _checks.check_at_least("seed", options["seed"], 0)


def range_of(
    source: MiningSource, num_negatives: int, options: Mapping[str, Any]
) -> RankRange:
    """The range in this source, with what was left out filled in."""
    range_min, range_max = options["range_min"], options["range_max"]
    if range_max is None:
        range_max = range_min + max(100, 10 * num_negatives)
    if source.num_items is not None:
        if range_min >= source.num_items:
            raise ValueError(
                f"`range_min` must be less than the number of items in the index "
                f"({source.num_items}), received {range_min}."
            )
        range_max = min(range_max, source.num_items)
    return RankRange(
        num_negatives, range_min, range_max, options["sampling"], options["seed"]
    )


def choose(
    positions: np.ndarray,
    scores: np.ndarray,
    limit: np.ndarray,
    range_: RankRange,
    start: int,
) -> tuple[np.ndarray, np.ndarray]:
    """M of the candidates in the range that pass the limit, best first."""
    # In the dtype of the scores, so that a limit equal to a score lets it pass.
    limit = limit.astype(scores.dtype)
    positions, scores = kept(scores <= limit[:, None], positions, scores)
    positions, scores = positions[:, range_.range_min :], scores[:, range_.range_min :]
    width = range_.num_negatives
    if range_.sampling == "uniform" and positions.shape[1]:
        most = range_.range_max - range_.range_min
        keys = _random(range_.seed, start, len(positions), most)
        keys = np.where(positions < 0, np.inf, keys[:, : positions.shape[1]])
        chosen = np.sort(np.argsort(keys, kind="stable")[:, :width])
        positions, scores = ordered(chosen, positions, scores)
    positions, scores = positions[:, :width], scores[:, :width]
    rest = [[0, 0], [0, width - positions.shape[1]]]
    return (
        np.pad(positions, rest, constant_values=-1),
        np.pad(scores.astype(np.float32), rest, constant_values=-np.inf),
    )


def kept(
    keep: np.ndarray, positions: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moves what is kept to the front, in its order, and fills the rest."""
    positions, scores = np.where(keep, positions, -1), np.where(keep, scores, -np.inf)
    return ordered(np.argsort(~keep, axis=1, kind="stable"), positions, scores)


def ordered(
    order: np.ndarray, positions: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The columns of each row that `order`, `[rows, any]`, names, in its order.

    Returns:
      Of `positions` and `scores`, `[rows, width]` each, a pair shaped as `order`.
    """
    return (
        np.take_along_axis(positions, order, axis=1),
        np.take_along_axis(scores, order, axis=1),
    )


def _random(seed: int, start: int, num_rows: int, width: int) -> np.ndarray:
    """Uniform numbers that depend on the seed, the row and the column only."""
    # Philox makes four numbers at each place of its sequence, and can start anywhere.
    places = -(-width // 4)
    generator = np.random.Philox(key=seed)
    generator.advance(start * places)
    return np.random.Generator(generator).random([num_rows, 4 * places])
