"""An audit: all its statistics, as one dict."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.audit import row_orders
from tfrs_negatives.audit.audit_table import AuditTable
from tfrs_negatives.audit.audited_models import AuditedModel
from tfrs_negatives.audit.batch_statistics import batch_statistics, cut
from tfrs_negatives.audit.exposure import items_seen
from tfrs_negatives.audit.popularity_skew import head_items
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.probes import Probes
from tfrs_negatives.audit.recommended_settings import THRESHOLDS, recommendations
from tfrs_negatives.audit.sampled_ratios import sampled_batches
from tfrs_negatives.audit.table_facts import TableFacts
from tfrs_negatives.version import __version__

SCHEMA_VERSION = 1
BATCH_SIZES = (256, 512, 1024, 2048, 4096, 8192)


def measure(
    table: AuditTable,
    model: AuditedModel | None = None,
    *,
    batch_sizes: Collection[int] = BATCH_SIZES,
    orders: Collection[str] = row_orders.ORDERS,
    max_batches: int = 64,
    spread_buffer: int = 16,
    temperature: float = 1.0,
    num_probes: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures what the negatives of a table, and of a model, are.

    Args:
      table: `AuditTable`.
      model: As `load_model` returns it, for statistics of scores; or None.
      batch_sizes: Sizes of batches; those above the number of rows are left out, and
        told of.
      orders: Of "shuffled", "request_sorted" and "spread" (`data.spread_requests`).
      max_batches: How many batches of an epoch are looked at; rates have standard
        errors where there are more.
      spread_buffer: Rows in the buffer of "spread", in batches.
      temperature: Scores of the model are divided by it.
      num_probes: Rows whose scores are looked at.
      seed: Of the orders and samples.
      progress: Whether to show it.

    Returns:
      Dict that JSON can hold; `docs/audit.md` lists its entries.

    Raises:
      ValueError: Options out of range, or no batch size of at most the table's rows.
    """
    check_options(batch_sizes, orders, max_batches, seed)
    _checks.check_at_least("spread_buffer", spread_buffer, 1)
    _checks.check_at_least("num_probes", num_probes, 1)
    if not 0 < temperature < np.inf:
        raise ValueError(f"`temperature` must be above 0, received {temperature}.")
    sizes = sizes_of(batch_sizes, len(table), table.name)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    tail = ~head_items(np.bincount(table.item, minlength=table.num_items))
    rng = np.random.default_rng([seed, 2])
    probes = None
    if model is not None:
        probes = Probes(model, table, known, tail, temperature, num_probes, rng)

    settings: list[dict[str, Any]] = []
    in_batch: dict[str, dict[str, Any]] = {}
    bar = None
    if progress:
        bar = keras.utils.Progbar(len(orders) * len(sizes), unit_name="setting")
    for name in orders:
        base = _base_order(name, table, seed)
        in_batch[name] = {}
        for size in sizes:
            order, spread = base, None
            if name == "spread":
                spread = row_orders.spread_settings(
                    size, len(table), table.num_requests, spread_buffer
                )
                order, spread["short_batches"] = row_orders.spread_order(
                    base, table.request, size, seed=seed, **spread
                )
            num_batches = -(-len(order) // size)
            chosen = sampled_batches(num_batches, max_batches, rng)
            setting = {"order": name, "batch_size": size}
            batches = cut(order, size, chosen)
            setting |= batch_statistics(batches, num_batches, table, known)
            seen = items_seen(order, size, table, known, tail)[tail]
            setting["tail_items_seen"] = float(seen.mean()) if len(seen) else None
            setting["spread"] = spread
            settings.append(setting)
            if probes is not None:
                in_batch[name][str(size)] = probes.in_batch(order, size)
            if bar is not None:
                bar.add(1)

    options = {
        "orders": list(orders),
        "batch_sizes": sizes,
        "batch_sizes_left_out": sorted(set(batch_sizes) - set(sizes)),
        "max_batches": max_batches,
        "spread_buffer": spread_buffer,
        "seed": seed,
    }
    measured = None
    if model is not None and probes is not None:
        measured = {
            "temperature": float(temperature),
            "probes": len(probes.rows),
            "rows_that_could_be_probes": probes.num_usable,
            "items_with_scores": int(model.knows_item.sum()),
            "in_batch": in_batch,
            "uniform": probes.uniform(),
            "hard": probes.hard(),
        }
    return report_of(_facts(table, known), options, settings, measured)


def report_of(
    facts: TableFacts,
    options: dict[str, Any],
    settings: list[dict[str, Any]],
    model: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of what was measured, with what it recommends.

    Args:
      facts: Of the table.
      options: What was asked for.
      settings: What was measured for each order and batch size.
      model: What was measured of a model, or None.
    """
    report: dict[str, Any] = {
        "schema": "tfrs_negatives.audit",
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "table": facts.report(),
        "options": options,
        "settings": settings,
    }
    if model is not None:
        report["model"] = model
    report["thresholds"] = THRESHOLDS
    report["recommendations"] = recommendations(report)
    return report


def check_options(
    batch_sizes: Collection[int], orders: Collection[str], max_batches: int, seed: int
) -> None:
    """Raises `ValueError` for options that no table could make right."""
    if not orders or len(set(orders)) < len(orders):
        raise ValueError(f"`orders` must be distinct and not empty, received {orders}.")
    for name in orders:
        _checks.check_choice("orders", name, row_orders.ORDERS)
    if not batch_sizes:
        raise ValueError("`batch_sizes` must not be empty: name at least one.")
    for size in batch_sizes:
        _checks.check_at_least("batch_sizes", size, 2)
    _checks.check_at_least("max_batches", max_batches, 2)
    _checks.check_at_least("seed", seed, 0)


def sizes_of(batch_sizes: Collection[int], num_rows: int, name: str) -> list[int]:
    """The sizes that a table has a batch of, ascending.

    Raises:
      ValueError: There is none.
    """
    sizes = [size for size in sorted(set(batch_sizes)) if size <= num_rows]
    if not sizes:
        raise ValueError(
            f"Batches must be of at most {num_rows} rows, those of {name}, received "
            f"{sorted(set(batch_sizes))}. Name a smaller batch size."
        )
    return sizes


def _base_order(name: str, table: AuditTable, seed: int) -> np.ndarray:
    if name == "shuffled":
        return row_orders.shuffled_order(len(table), seed)
    return row_orders.request_order(table.request, seed, epoch=0).astype(np.int32)


def _facts(table: AuditTable, known: PositivePairs) -> TableFacts:
    positives = np.bincount(table.user, minlength=table.num_users)
    return TableFacts(
        name=table.name,
        num_read=table.num_read,
        num_used=len(table),
        time_range=table.time_range,
        num_users=table.num_users,
        num_requests=table.num_requests,
        num_pairs=len(known),
        request_rule=table.request_rule,
        item_counts=np.bincount(table.item, minlength=table.num_items),
        other_positives=int(positives @ (np.diff(known.starts) - 1)),
    )
