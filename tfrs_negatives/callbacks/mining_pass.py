"""One refresh of mined negatives, from towers to table."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from tfrs_negatives import _checks
from tfrs_negatives.callbacks.tower_encoder import TowerEncoder
from tfrs_negatives.index.mining import check_options, mine, mine_hard_negatives
from tfrs_negatives.index.mining.query_positives import with_own
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.samplers import Mined
from tfrs_negatives.types import ListsLike

_MARGINS = ("absolute_margin", "relative_margin")
# What can leave candidates of the range out, so that a longer range has its use.
_FILTERS = (*_MARGINS, "max_score", "score_function")
# What a refresh has its own way for.
_OWN = ("positives", "positive_scores", "positive_embeddings", "ids", "progress")


class MiningPass:
    """Embeds, indexes, mines and assigns.

    Args:
      candidates: `TowerEncoder` of the corpus.
      queries: `TowerEncoder` of the table's rows; None: the item side.
      mining: Dict of options of mining.
      sampler, index, positives, num_negatives: As in `RefreshNegatives`.
    """

    def __init__(
        self,
        sampler: Mined,
        index: TopK,
        candidates: TowerEncoder,
        queries: TowerEncoder | None,
        mining: dict[str, Any],
        positives: ListsLike | None,
        num_negatives: int | None,
    ) -> None:
        if not isinstance(sampler, Mined):
            raise ValueError(
                "`sampler` must be a samplers.Mined, received "
                f"{type(sampler).__name__}."
            )
        if not isinstance(index, TopK):
            raise ValueError(
                "`index` must be a BruteForce or ScaNN of tfrs_negatives.index, "
                f"received {type(index).__name__}."
            )
        unknown = set(mining) - set(mine_hard_negatives.__kwdefaults__ or ()) | (
            set(mining) & set(_OWN)
        )
        if unknown:
            raise TypeError(
                f"RefreshNegatives takes no option {sorted(unknown)}; see its "
                "arguments for those of mining."
            )
        if queries is not None and any(mining.get(m) is not None for m in _MARGINS):
            raise ValueError(
                "Margins need the score of one positive, which only the item side "
                "has. Use `max_score` or `range_min`."
            )
        if num_negatives is not None:
            _checks.check_at_least("num_negatives", num_negatives, 1)
        mining = {"sampling": "top", "seed": 0, **mining}
        check_options(mining)
        if mining.get("score_function") is not None and any(
            mining.get(m) is not None for m in _MARGINS
        ):
            raise ValueError(
                "Margins lie below an item's product with itself, which the scores of "
                "`score_function` cannot be compared with. Use `max_score`."
            )
        # Once: a table of short rows is narrower, and so would be those that follow.
        num_negatives = num_negatives or sampler.table.value().shape[1]
        if not num_negatives:
            raise ValueError(
                "The sampler's table is empty, which does not say how many negatives "
                "to mine for a row. Pass `num_negatives`."
            )
        _warn_of_ranks_never_kept(mining, num_negatives)
        self._sampler, self._index = sampler, index
        self._candidates, self._queries = candidates, queries
        self._positives, self._num_negatives = positives, num_negatives
        self._mining = mining

    def trace(self) -> None:
        """Traces both towers; says now what would make every refresh fail."""
        self._candidates.check_distinct()
        self._candidates.trace()
        if self._queries is not None:
            self._queries.trace()

    def __call__(self, step: int) -> dict[str, float]:
        """Refreshes the table; it stays as it was if anything fails.

        Args:
          step: The training step that the towers' weights are of.

        Returns:
          Dict of what is logged.
        """
        started = time.perf_counter()
        ids, candidates = self._candidates.encode()
        self._index.index(candidates, ids)
        options = {**self._mining, "seed": self._mining["seed"] + step}
        if self._queries is None:
            order = self._table_order("candidates", ids)
            queries = candidates[order]
            options["positives"] = ids[order]
            if self._positives is not None:
                options["positives"] = with_own(ids[order], self._positives)
            if any(options.get(margin) is not None for margin in _MARGINS):
                options["positive_embeddings"] = queries
        else:
            ids, queries = self._queries.encode()
            queries = queries[self._table_order("queries", ids)]
            options["positives"] = self._positives
        before = self._sampler.table.numpy()
        mined = mine(
            self._index,
            queries,
            self._num_negatives,
            progress=False,
            **options,
        )
        self._sampler.assign(mined.ids, step)
        after = self._sampler.table.numpy()
        width = min(before.shape[1], after.shape[1])
        return {
            "refresh_seconds": time.perf_counter() - started,
            "refresh_changed": float(np.mean(before[:, :width] != after[:, :width])),
            "refresh_short_rows": mined.num_short_rows,
        }

    def _table_order(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Where each row of the table is among `ids`."""
        num_rows = self._sampler.table.shape[0]
        rows = self._sampler.table_rows(name, ids).numpy()
        places = np.flatnonzero(rows < num_rows)
        counts = np.bincount(rows[places], minlength=num_rows)
        if (counts != 1).any():
            raise ValueError(
                f"`{name}` must have each row of the sampler's table once: "
                f"{np.sum(counts == 0)} of {num_rows} rows are missing and "
                f"{np.sum(counts > 1)} occur more often."
            )
        order = np.empty(num_rows, np.int64)
        order[rows[places]] = places
        return order


def _warn_of_ranks_never_kept(mining: dict[str, Any], width: int) -> None:
    low, high = mining.get("range_min", 0), mining.get("range_max")
    if (
        mining["sampling"] == "top"
        and high is not None
        and high - low > width
        and all(mining.get(name) is None for name in _FILTERS)
    ):
        warnings.warn(
            f'`sampling="top"` keeps the best {width} of ranks {low + 1} to {high}: '
            f"those from {low + width + 1} on are never in the table. Pass "
            f"`range_max={low + width}`, `num_negatives={high - low}`, or "
            '`sampling="uniform"`.',
            stacklevel=4,
        )
