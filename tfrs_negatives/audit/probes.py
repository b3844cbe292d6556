"""What a model's scores say of negatives, on a sample of rows.

With s the score of a column over the temperature, less that of the row's positive, a
column's weight in the softmax is exp(s), and that of the positive 1. The gradient with
respect to a column's score is its weight over the sum of all. So sources of negatives
are told by how many columns each gives a row, and by the logarithm of their mean
weight ("log mean weight"), from which the shares of any mixture follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfrs_negatives.audit.audit_table import AuditTable
from tfrs_negatives.audit.audited_models import AuditedModel
from tfrs_negatives.audit.held_out import last_interactions
from tfrs_negatives.audit.negative_pairs import LEVELS
from tfrs_negatives.audit.positive_pairs import PositivePairs

BAND_EDGES = (0, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)

# Scores that are held: 128 MiB of float32.
_SCORES = 2**25
_LEAST_PROBES = 16


class Probes:
    """Rows of a table, each with the scores of all items for its user.

    They are none of each user's last 20% of rows: these stand for positives that are
    not recorded yet. Masks of known positives drop the items of the user's other rows
    ("earlier"); what is left of the last ones' items are the false negatives then
    ("later"). Without that mask, false negatives are the items of all the user's rows.

    Args:
      model: As `audited_models.load_model` returns it.
      table: `AuditTable`, read with `for_model`.
      known: Its `PositivePairs`.
      tail: [N] bool, which items are tail items.
      temperature: Scores are divided by it.
      num_probes: How many rows, fewer where the items are many.
      rng: NumPy generator that draws them.

    Raises:
      ValueError: The model knows no such row; scores that are infinite.
    """

    def __init__(
        self,
        model: AuditedModel,
        table: AuditTable,
        known: PositivePairs,
        tail: np.ndarray,
        temperature: float,
        num_probes: int,
        rng: np.random.Generator,
    ) -> None:
        most = max(_LEAST_PROBES, _SCORES // table.num_items)
        time = np.arange(len(table)) if table.time is None else table.time
        held = last_interactions(table.user, time)
        earlier = PositivePairs(
            table.user[~held], table.item[~held], table.num_users, table.num_items
        )
        # Who has taken every item has no negatives.
        has_negatives = np.diff(earlier.starts) < model.knows_item.sum()
        usable = ~held & (model.knows_user & has_negatives)[table.user]
        usable &= model.knows_item[table.item]
        usable = np.flatnonzero(usable)
        if not len(usable):
            raise ValueError(
                f"The model must know a row of {table.name} that is not its user's "
                "last, received none. Was it trained on this table?"
            )
        num = min(num_probes, most, len(usable))
        self.rows = np.sort(rng.choice(usable, num, replace=False))
        self.num_usable = len(usable)
        self._table, self._tail = table, tail
        users, own = table.user[self.rows], table.item[self.rows]
        scores = model.scores(users) / np.float32(temperature)
        if np.isinf(scores).any():
            raise ValueError("Scores must be finite, received infinity.")
        places = np.arange(num)
        self._scores = scores - scores[places, own][:, None]
        self._scored = ~np.isnan(self._scores)
        self._own = np.zeros(scores.shape, bool)
        self._own[places, own] = True
        self._all, self._earlier = _marked(known, users), _marked(earlier, users)

    def in_batch(self, order: np.ndarray, batch_size: int) -> dict[str, Any]:
        """The probes' columns in their batches.

        Returns:
          Dict from level of masks to "columns" [R] (how many are left of a probe's),
          "log_mean_weight" [R] (None where none is left) and "false_negative_rate".
        """
        table = self._table
        at = np.flatnonzero(np.isin(order, self.rows))
        at = at[np.argsort(order[at])]
        found: dict[str, tuple[list[int], list[float | None], list[int]]] = {
            level: ([], [], []) for level in LEVELS
        }
        for place, (row, position) in enumerate(zip(self.rows, at, strict=True)):
            first = position - position % batch_size
            rows = order[first : first + batch_size]
            rows = rows[rows != row]
            item = table.item[rows]
            rows, item = (
                rows[self._scored[place, item]],
                item[self._scored[place, item]],
            )
            keep = np.ones(len(rows), bool)
            drops = {
                "none": ~keep,
                "accidental_hits": self._own[place, item],
                "keys": (table.user[rows] == table.user[row])
                | (table.request[rows] == table.request[row]),
                "known_positives": self._earlier[place, item],
            }
            for level in LEVELS:
                keep = keep & ~drops[level]
                wrong = self._all[place, item[keep]]
                columns, weights, false = found[level]
                columns.append(int(keep.sum()))
                weights.append(_log_mean_weight(self._scores[place, item[keep]]))
                false.append(int(wrong.sum()))
        return {
            level: {
                "columns": columns,
                "log_mean_weight": weights,
                "false_negative_rate": _share(sum(false), sum(columns)),
            }
            for level, (columns, weights, false) in found.items()
        }

    def uniform(self) -> dict[str, Any]:
        """The catalogue's items but for the probe's own.

        Returns:
          Dict of "all" and "unknown" (without earlier positives), of dicts of
          "log_mean_weight" [R] and "false_negative_rate".
        """
        return {name: self._over(keep) for name, keep in self._eligible().items()}

    def hard(self) -> dict[str, Any]:
        """The catalogue's items by rank, in bands.

        Returns:
          "edges": ranks before which bands begin and end; "all" and "unknown", as
          `uniform`, of lists of dicts, one a band, with also "tail_share", of
          the band's items.
        """
        eligible = self._eligible()
        # The same bands for both, as deep as the less deep.
        depth = int(eligible["unknown"].sum(axis=1).min())
        edges = [edge for edge in BAND_EDGES if edge <= depth]
        if edges[-1] < BAND_EDGES[-1] and depth > 1.2 * edges[-1]:
            edges.append(depth)  # A narrower band would tell little.
        found: dict[str, Any] = {"edges": edges}
        for name, keep in eligible.items():
            ranked = np.stack(
                [
                    _best(np.where(kept, scores, -np.inf), edges[-1])
                    for scores, kept in zip(self._scores, keep, strict=True)
                ]
            )
            found[name] = [
                self._of_band(ranked[:, low:high])
                for low, high in zip(edges, edges[1:], strict=False)
            ]
        return found

    def _of_band(self, items: np.ndarray) -> dict[str, Any]:
        """The same for items [R, m]."""
        rows = np.arange(len(items))[:, None]
        return {
            "log_mean_weight": [_log_mean_weight(s) for s in self._scores[rows, items]],
            "false_negative_rate": _share(self._all[rows, items].sum(), items.size),
            "tail_share": _share(self._tail[items].sum(), items.size),
        }

    def _eligible(self) -> dict[str, np.ndarray]:
        others = self._scored & ~self._own
        return {"all": others, "unknown": others & ~self._earlier}

    def _over(self, keep: np.ndarray) -> dict[str, Any]:
        return {
            "log_mean_weight": [
                _log_mean_weight(scores[kept])
                for scores, kept in zip(self._scores, keep, strict=True)
            ],
            "false_negative_rate": _share((keep & self._all).sum(), keep.sum()),
        }


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    """The places of the best scores, best first; of equal ones the first."""
    some = np.argpartition(-scores, depth - 1)[:depth]
    # All that tie with the last, so that the first of them can be taken.
    some = np.flatnonzero(scores >= scores[some].min())
    return some[np.argsort(-scores[some], kind="stable")][:depth]


def _marked(known: PositivePairs, users: np.ndarray) -> np.ndarray:
    marks = np.zeros([len(users), known.num_items], bool)
    marks[known.of(users)] = True
    return marks


def _log_mean_weight(scores: np.ndarray) -> float | None:
    if not len(scores):
        return None
    scores = scores.astype(np.float64)
    most = scores.max()
    return round(float(most + np.log(np.mean(np.exp(scores - most)))), 4)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
