"""What a discount of popularity would do to ours: a table over discounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfrs_negatives.cli import comparison, row_names
from tfrs_negatives.recommender import Recommender, popularity_tradeoff
from tfrs_negatives.recommender.held_out_figures import COVERAGE, RECALL, TAIL_RECALL
from tfrs_negatives.recommender.time_split import Split

#: What is looked at over discounts.
SHOWN = (RECALL, TAIL_RECALL, COVERAGE)

_RULE = (
    f"the best {TAIL_RECALL} on validation pairs, among the discounts that keep at "
    f"least {popularity_tradeoff.KEPT_RECALL:.0%} of the {RECALL} without a discount"
)


@dataclasses.dataclass(frozen=True)
class OfSeed:
    """Figures of one model for each discount.

    Attributes:
      test: Of held-out pairs.
      validation: Of validation pairs, or None.
    """

    test: list[dict[str, float | None]]
    validation: list[dict[str, float | None]] | None


def measured(recommender: Recommender, parts: Split) -> OfSeed:
    """Looks at what `Recommender.evaluate` trained.

    Args:
      recommender: Right after `evaluate`.
      parts: `Split`.
    """
    towers = recommender.towers
    assert towers is not None
    items = towers.embed_items()

    def over(pairs: Any, histories: Any) -> list[dict[str, float | None]]:
        pairs = popularity_tradeoff.looked_at(pairs, len(items))
        return popularity_tradeoff.trade_off(
            towers.embed_users(pairs.users, histories),
            items,
            pairs,
            parts.training.item_counts,
            towers.temperature,
        )

    return OfSeed(
        test=over(parts.held_out, parts.training.histories),
        validation=(
            None
            if parts.validation is None
            else over(parts.validation, parts.fitted.histories)
        ),
    )


def summary(of_seeds: Sequence[OfSeed], parts: Split) -> dict[str, Any]:
    """What stands in the figures.

    Args:
      of_seeds: `OfSeed` of each seed.
      parts: `Split`.

    Returns:
      Dict: "model"; "rule", by which "chosen", a discount, was chosen, None without
      validation pairs; "users", how many were looked at; "discounts", a list: of each
      "popularity_discount" `SHOWN` of held-out pairs ("figures") and of validation
      pairs ("validation", or None), as `comparison.mean_and_deviation` has them.
    """
    looked_at = popularity_tradeoff.looked_at(
        parts.held_out, len(parts.training.item_ids)
    )
    test = _means([of.test for of in of_seeds])
    validation, best = None, None
    if parts.validation is not None:
        validation = _means([of.validation or [] for of in of_seeds])
        best = popularity_tradeoff.chosen(
            [{name: of[name]["mean"] for name in SHOWN} for of in validation]
        )
    return {
        "model": row_names.OURS,
        "rule": _RULE,
        "chosen": best,
        "users": len(looked_at.users),
        "discounts": [
            {
                "popularity_discount": discount,
                "figures": test[place],
                "validation": None if validation is None else validation[place],
            }
            for place, discount in enumerate(popularity_tradeoff.DISCOUNTS)
        ],
    }


def chosen_figures(found: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of held-out pairs with the chosen discount; None where it is 0 or none.

    Args:
      found: What `summary` returns.
    """
    if not found["chosen"]:
        return None
    [of] = [
        of["figures"]
        for of in found["discounts"]
        if of["popularity_discount"] == found["chosen"]
    ]
    return of


def told(found: dict[str, Any]) -> str | None:
    """The chosen discount in a sentence; None where none was chosen.

    Args:
      found: What `summary` returns.
    """
    if found["chosen"] is None:
        return None
    of = chosen_figures(found)
    if of is None:
        return (
            "note: the suggestion is --popularity-discount 0, the default: "
            f"{reason(found)}."
        )
    figures = ", ".join(f"{name} {comparison.cell(of[name], name)}" for name in SHOWN)
    return (
        f"note: the suggestion is --popularity-discount {found['chosen']}: "
        f"{reason(found)}. A query of the same model then has {figures}."
    )


def reason(found: dict[str, Any]) -> str:
    """Why the discount was chosen.

    Args:
      found: What `summary` returns, with a chosen discount, which may be 0.
    """
    tails = [of["validation"][TAIL_RECALL]["mean"] for of in found["discounts"]]
    if None in tails:  # Of one, of all.
        return "no validation pair is of an item of the tail"
    if not any(tails):
        return (
            f"with every discount the {TAIL_RECALL} on validation pairs is 0, so it "
            "does not say which is best"
        )
    return f"it has {found['rule']}"


def _means(
    of_seeds: Sequence[list[dict[str, float | None]]],
) -> list[dict[str, dict[str, Any]]]:
    return [
        {
            name: comparison.mean_and_deviation([of[name] for of in seeds])
            for name in SHOWN
        }
        for seeds in zip(*of_seeds, strict=True)
    ]
