"""Which settings the measured numbers ask for, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfrs_negatives.audit.distinct_loss import predicted_factor
from tfrs_negatives.audit.mixture_effects import mixture

# What makes a rule speak; docs/audit.md gives the reasons.
THRESHOLDS = {
    "false_negative_rate": 0.01,
    "sorted_over_shuffled": 1.5,
    "accidental_hit_rate": 0.005,
    "gini": 0.6,
    "top_1_percent_share": 0.1,
    "tail_rows_over_items": 0.5,
    "tail_items_seen": 0.95,
    "distinct_users_share": 0.5,
    "distinct_loss_factor": 1.5,
    "columns_left_share": 0.5,
    "hard_false_negative_rate": 0.02,
    "uniform_gradient_share": 0.05,
    "negatives_probability": 0.1,
    "catalogue_items": 40_000,
    "share_of_items_had": 0.002,
}


def recommendations(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings that the report's numbers ask for.

    They are told for the middle one of the measured batch sizes, and for the order in
    which logs most often come: request-sorted, if it was measured.

    Args:
      report: As `measure` returns it, but for this.

    Returns:
      List of dicts: "setting", what to do; "reason", in words; "measured", the number
      that decided; "threshold", what it was compared with, a key of `THRESHOLDS`.
    """
    sizes = report["options"]["batch_sizes"]
    size = sizes[len(sizes) // 2]
    by_order = {s["order"]: s for s in report["settings"] if s["batch_size"] == size}
    here = by_order.get("request_sorted") or next(iter(by_order.values()))
    found = [
        *_masks(here, by_order, size),
        *_popularity(report["table"]["popularity"]),
        *_batches(here, by_order, size),
        *_losses(report["table"]),
    ]
    if "model" in report:
        found += _model(report, here, size)
    return found


def _masks(
    here: dict[str, Any], by_order: dict[str, dict[str, Any]], size: int
) -> Iterator[dict[str, Any]]:
    limit = THRESHOLDS["false_negative_rate"]
    order = here["order"].replace("_", "-")
    none, hits, keys = (
        here["levels"][level]["false_negative_rate"]["value"] or 0.0
        for level in ("none", "accidental_hits", "keys")
    )
    accidental = here["levels"]["accidental_hits"]["mask_rate"]["value"]
    if accidental >= THRESHOLDS["accidental_hit_rate"]:
        yield _recommendation(
            "Retrieval(remove_accidental_hits=True), candidate_ids=",
            f"In {order} batches of {size:,}, {percent(accidental)} of a row's columns "
            "are its own item again, which no row should be pushed away from.",
            accidental,
            "accidental_hit_rate",
        )
    if none >= limit:
        yield _recommendation(
            "query_keys={'user': ..., 'request': ...}",
            f"In {order} batches of {size:,}, {percent(none)} of in-batch negatives "
            f"are known positives of the row's user. Masks of accidental hits leave "
            f"{percent(hits)}, those of keys {percent(keys)}.",
            none,
            "false_negative_rate",
        )
    if keys >= limit:
        yield _recommendation(
            "known_positive_ids=",
            f"After the masks of keys {percent(keys)} of the negatives left are still "
            "known positives: items that the user took at another time, brought by "
            "others. Only the user's history tells.",
            keys,
            "false_negative_rate",
        )
    shuffled, spread = by_order.get("shuffled"), by_order.get("spread")
    if here["order"] != "request_sorted" or shuffled is None:
        return
    base = shuffled["levels"]["none"]["false_negative_rate"]["value"]
    ratio = none / base if base else float("inf") if none else 1.0
    if ratio >= THRESHOLDS["sorted_over_shuffled"] and none >= limit:
        how, remedy = "", "shuffle, or mask by keys"
        if spread is not None:
            rate = spread["levels"]["none"]["false_negative_rate"]["value"]
            how = f" Spread has {percent(rate)}."
            chosen = spread["spread"]
            remedy = (
                f"data.spread_requests(min_distinct_keys={chosen['min_distinct_keys']},"
                f" buffer_size={chosen['buffer_size']})"
            )
        yield _recommendation(
            remedy,
            f"Request-sorted batches of {size:,} have {percent(none)} false negatives "
            f"before masks, {_times(ratio)} the {percent(base)} of shuffled ones.{how}",
            None if base == 0 else ratio,
            "sorted_over_shuffled",
        )


def _popularity(skew: dict[str, Any]) -> Iterator[dict[str, Any]]:
    top, gini = skew["top_1_percent_share"], skew["gini"]
    name = "gini" if gini >= THRESHOLDS["gini"] else "top_1_percent_share"
    if skew[name] >= THRESHOLDS[name]:
        yield _recommendation(
            "Retrieval(sampling_correction=layers.StreamingFrequency())",
            f"The most popular 1% of items have {percent(top)} of the rows (Gini "
            f"coefficient {gini:.2f}): as in-batch negatives they are punished for "
            "being popular unless log q is subtracted.",
            skew[name],
            name,
        )
        yield _recommendation(
            'Retrieval(positive="outside", negative_weight=1.22)',
            f"Where the most popular 1% of items have {percent(top)} of the rows (Gini "
            f"coefficient {gini:.2f}), towers of unit vectors with log q gained "
            "overall recall by it, among popular items, and lost some of the tail's. "
            "Try weights from 1.1 to 1.3 where overall recall is what counts.",
            skew[name],
            name,
        )
    rows, items = skew["tail_row_share"], skew["tail_item_share"]
    if items and rows / items <= THRESHOLDS["tail_rows_over_items"]:
        yield _recommendation(
            "samplers.Uniform(items).attach(dataset, k), layers.MixedLogQ",
            f"The tail is {percent(items)} of the items and {percent(rows)} of the "
            "in-batch columns: what a tail item's score should not be is hardly ever "
            "said. Uniform negatives show all items alike.",
            rows / items,
            "tail_rows_over_items",
        )


def _batches(
    here: dict[str, Any], by_order: dict[str, dict[str, Any]], size: int
) -> Iterator[dict[str, Any]]:
    order = here["order"].replace("_", "-")
    distinct = here["distinct_users"]["value"]
    if distinct / size <= THRESHOLDS["distinct_users_share"]:
        yield _recommendation(
            "layers.OncePerKey(query_tower)",
            f"A {order} batch of {size:,} has {distinct:,.0f} distinct users: run once "
            f"for each, a tower of their features does {_times(size / distinct)} less "
            "work.",
            distinct / size,
            "distinct_users_share",
        )
    yield from _distinct_loss(here, size)
    left = _least_left(here, size)
    if left <= THRESHOLDS["columns_left_share"]:
        remedy, how = "samplers.Uniform(items), or a larger batch", ""
        spread = by_order.get("spread")
        if spread is not None and here["order"] == "request_sorted":
            other = _least_left(spread, size)
            how = f" In spread batches it is {percent(other)}."
            if other > THRESHOLDS["columns_left_share"]:
                remedy = "data.spread_requests"
        yield _recommendation(
            remedy,
            f"After all masks one row in twenty of {order} batches of {size:,} has at "
            f"most {percent(left)} of its columns left to learn from.{how}",
            left,
            "columns_left_share",
        )
    seen = here["tail_items_seen"]
    if seen is not None and seen < THRESHOLDS["tail_items_seen"]:
        yield _recommendation(
            "samplers.Uniform(items).attach(dataset, k)",
            f"Only {percent(seen)} of the tail items are a negative of any row in an "
            f"epoch of {order} batches of {size:,}.",
            seen,
            "tail_items_seen",
        )


def _distinct_loss(here: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    order = here["order"].replace("_", "-")
    queries = here["distinct_queries"]["value"]
    items = here["distinct_items"]["value"]
    factor = predicted_factor(size, queries, items)
    if factor >= THRESHOLDS["distinct_loss_factor"]:
        share = percent(queries * items / size**2)
        alone = predicted_factor(size, size, items)
        yield _recommendation(
            "query_rows=, candidate_rows= of layers.OncePerKey(...).distinct",
            f"A {order} batch of {size:,} has {queries:,.0f} distinct pairs of user "
            f"and request and {items:,.0f} distinct items: {share} of its pairs of "
            "rows and columns. Of distinct embeddings the same loss is predicted to be "
            f"{_times(factor)} as fast on a CPU ({_times(alone)} with candidate_rows= "
            "alone): for towers that see nothing of single rows.",
            factor,
            "distinct_loss_factor",
        )


def _losses(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the loss can be given beside the batch."""
    items = table["items"]
    if items <= THRESHOLDS["catalogue_items"]:
        yield _recommendation(
            "samplers.Catalogue(items)",
            f"All {items:,} items fit as columns of every batch: the softmax over the "
            "catalogue, without the noise of sampling, for a few times the step.",
            items,
            "catalogue_items",
        )
    share = table["distinct_pairs"] / (table["users"] * items)
    if share <= THRESHOLDS["share_of_items_had"]:
        yield _recommendation(
            "teachers.blend([teachers.EASE(l2), teachers.ItemNeighbours()])",
            f"A user has had {percent(share)} of the items: most of what they would "
            "like was never recorded. What other models rank highest for them are "
            "targets to learn from.",
            share,
            "share_of_items_had",
        )


def _least_left(setting: dict[str, Any], size: int) -> float:
    return setting["levels"]["known_positives"]["columns_left"]["p5"] / (size - 1)


def _model(
    report: dict[str, Any], here: dict[str, Any], size: int
) -> Iterator[dict[str, Any]]:
    bands = report["model"]["hard"]
    limit = THRESHOLDS["hard_false_negative_rate"]
    rates = [band["false_negative_rate"] for band in bands["unknown"]]
    clean = len(rates)
    while clean and rates[clean - 1] <= limit:
        clean -= 1
    first, last = bands["edges"][0] + 1, bands["edges"][1]
    if clean == len(rates):
        setting = "no mined negatives from the ranks measured"
        rest = f"No band is below {percent(limit)}."
    else:
        skip = bands["edges"][clean]
        setting = f"mine_hard_negatives(range_min={skip})"
        rest = f"From rank {skip + 1:,} on it is at most {percent(limit)}."
    yield _recommendation(
        setting,
        f"Of the candidates at ranks {first}-{last}, known positives left out, "
        f"{percent(rates[0])} are taken later by the user. {rest}",
        rates[0],
        "hard_false_negative_rate",
    )
    half = mixture(report, here["order"], size, "keys", (1, 1, 0))
    if half["gradient"] is None:
        return
    share = half["gradient"]["uniform"]
    if share < THRESHOLDS["uniform_gradient_share"]:
        yield _recommendation(
            "fewer uniform negatives, or mined ones beside them",
            f"With as many uniform as in-batch negatives, the uniform ones carry "
            f"{percent(share)} of the gradient: this model has learned to tell them.",
            share,
            "uniform_gradient_share",
        )
    chance = half["negatives_probability"]
    if chance < THRESHOLDS["negatives_probability"]:
        yield _recommendation(
            "samplers.Mined, callbacks.RefreshNegatives",
            f"All negatives of a row together have a probability of {percent(chance)}: "
            "little is left to learn from them. Harder ones have more to say.",
            chance,
            "negatives_probability",
        )


def percent(share: float | None) -> str:
    """A share in words, as the page writes it."""
    if share is None:
        return "none"
    value = 100 * share
    if value and value < 0.01:
        return "less than 0.01%"
    return f"{round(value, 1 if value >= 1 else 2):g}%"


def _times(ratio: float) -> str:
    return "infinitely many times" if ratio == float("inf") else f"{ratio:.1f} times"


def _recommendation(
    setting: str, reason: str, measured: float | None, threshold: str
) -> dict[str, Any]:
    return {
        "setting": setting,
        "reason": reason,
        "measured": measured,
        "threshold": threshold,
        "compared_with": THRESHOLDS[threshold],
    }
