"""An audit as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

_WIDTH = 88
_COLUMNS = (
    ("order", lambda s: s["order"].replace("_", "-")),
    ("batch", lambda s: f"{s['batch_size']:,}"),
    ("users", lambda s: f"{s['distinct_users']['value']:,.0f}"),
    ("requests", lambda s: f"{s['distinct_requests']['value']:,.0f}"),
    ("items", lambda s: f"{s['distinct_items']['value']:,.0f}"),
    ("FN %", lambda s: _rate(s, "none")),
    ("keys %", lambda s: _rate(s, "keys")),
    ("columns", lambda s: _columns_left(s, "value")),
    ("p5", lambda s: _columns_left(s, "p5")),
    ("tail seen %", lambda s: _percent(s["tail_items_seen"])),
)
_LEGEND = (
    "users, requests, items: distinct ones in a batch. FN %: false negatives among the "
    "pairs of a row and another's column, ± standard error where batches were sampled; "
    "keys %: after masks of accidental hits, users and requests. "
    "columns, p5: of a row, after masks of known positives too: mean and 5th "
    "percentile. tail seen %: tail items that are a negative in an epoch."
)


def summary(report: dict[str, Any]) -> str:
    """A table, recommendations with reasons, and what the table's heads mean.

    Args:
      report: As `measure` returns it.

    Returns:
      Text of several lines.
    """
    rows = [[name for name, _ in _COLUMNS]]
    rows += [[text(setting) for _, text in _COLUMNS] for setting in report["settings"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    lines += ["", *textwrap.wrap(_LEGEND, _WIDTH)]
    if "model" in report:
        lines += ["", *_bands(report["model"]["hard"])]
    lines += ["", "Recommendations"]
    for number, one in enumerate(report["recommendations"], 1):
        lines.append(f"{number}. {one['setting']}")
        lines += textwrap.wrap(
            one["reason"], _WIDTH, initial_indent="   ", subsequent_indent="   "
        )
    if not report["recommendations"]:
        lines.append("None: every number is on the good side of its threshold.")
    return "\n".join(lines)


def facts(report: dict[str, Any]) -> str:
    """What was read, as lines."""
    table = report["table"]
    skew = table["popularity"]
    return "\n".join(
        [
            f"data: {table['name']}",
            f"rows: {table['rows_read']:,} read, {table['rows_used']:,} used, "
            f"{table['rows_dropped_by_label']:,} dropped by label",
            f"times: {table['time_range']}",
            f"users: {table['users']:,}, items: {table['items']:,}, requests: "
            f"{table['requests']:,} ({table['request_rule']})",
            f"popularity: Gini {skew['gini']:.2f}, top 1% of items have "
            f"{100 * skew['top_1_percent_share']:.1f}% of the rows, the tail "
            f"({100 * skew['tail_item_share']:.0f}% of items) "
            f"{100 * skew['tail_row_share']:.1f}%",
        ]
    )


def _bands(hard: dict[str, Any]) -> Iterator[str]:
    yield "mined at ranks: taken later by the user, known positives left out (and in)"
    pairs = zip(hard["edges"], hard["edges"][1:], strict=False)
    for (low, high), out, all_ in zip(pairs, hard["unknown"], hard["all"], strict=True):
        yield (
            f"  {f'{low + 1:,}-{high:,}'.rjust(12)}: "
            f"{_percent(out['false_negative_rate'])}% "
            f"({_percent(all_['false_negative_rate'])}%)"
        )


def _rate(setting: dict[str, Any], level: str) -> str:
    rate = setting["levels"][level]["false_negative_rate"]
    error = rate["standard_error"]
    return _percent(rate["value"]) + (f" ±{100 * error:.2f}" if error else "")


def _columns_left(setting: dict[str, Any], name: str) -> str:
    value = setting["levels"]["known_positives"]["columns_left"][name]
    return "-" if value is None else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
