"""The audit of a table of any size."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from tfrs_negatives import _checks
from tfrs_negatives.audit import page
from tfrs_negatives.audit.batch_statistics import batch_statistics
from tfrs_negatives.audit.measure import (
    BATCH_SIZES,
    check_options,
    report_of,
    sizes_of,
)
from tfrs_negatives.pipeline.audit_sample import plans, sampled_rows
from tfrs_negatives.pipeline.audit_totals import (
    first_rows_of_parts,
    read_requests,
    table_facts,
)
from tfrs_negatives.pipeline.beam_engine import BeamEngine
from tfrs_negatives.pipeline.input_rows import InputRows
from tfrs_negatives.pipeline.shards import SHARD_ROWS
from tfrs_negatives.pipeline.step import Progress, Step
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.types import PathLike

ORDERS = ("shuffled", "request_sorted")
_REPORT, _PAGE = "audit.json", "audit.html"


def audit_table(
    path: PathLike,
    output: PathLike,
    *,
    columns: Mapping[str, str | None] | None = None,
    batch_sizes: Collection[int] = BATCH_SIZES,
    orders: Collection[str] = ORDERS,
    max_batches: int = 64,
    seed: int = 0,
    heavy_rows: int = SHARD_ROWS,
    engine: BeamEngine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Audits a table: what `audit.measure` finds without a model, on many workers.

    Every figure is the same, of the same batches, and so is the page made of them. Two
    are left out. "spread" is what one pipeline's buffer makes of the rows, one after
    the other. "tail_items_seen" (None here) looks at all batches of an epoch.

    Workers count, and send the rows of the batches that are looked at, at most
    `max_batches` of each size, and what the users of these rows have. The process that
    starts the step computes from those; it holds 4 bytes a row of the table and 40
    bytes a request besides.

    Args:
      path: A table of interactions, as `data.interactions` takes it.
      output: A folder to write, at a path that all workers have, or `scheme://...`: it
        gets `audit.json` and `audit.html`.
      columns: Names of columns by role, as arguments of `data.interactions`.
      batch_sizes, max_batches, seed: As `audit.measure` has them.
      orders: Of "shuffled" and "request_sorted".
      heavy_rows: Of a request with more rows, only those that batches have are sent.
      engine: Where it runs; None: one process of this machine.
      progress: Function of a line that says how far it is, or None.

    Returns:
      The report, as `audit.measure` returns it.

    Raises:
      ValueError: As `audit.read_table` and `audit.measure`; something else is at
        `output`; the runner failed.
    """
    orders = list(orders)
    for name in orders:
        _checks.check_choice("orders", name, ORDERS)
    check_options(batch_sizes, orders, max_batches, seed)
    _checks.check_at_least("heavy_rows", heavy_rows, 1)
    rows = InputRows(path, columns or {})
    description = {
        "step": "audit_table",
        "batch_sizes": sorted(set(batch_sizes)),
        "orders": orders,
        "max_batches": max_batches,
        "seed": seed,
        "heavy_rows": heavy_rows,
        "input": rows.description(),
    }
    step = Step.begun(output, description, engine, progress)
    if step is None:
        return StepFolder(output, description).read_output(_REPORT)
    before = first_rows_of_parts(step, rows)
    facts = table_facts(step, rows, before)
    sizes = sizes_of(batch_sizes, facts.num_used, facts.name)
    keys, request_rows = read_requests(step.folder)
    every = plans(orders, sizes, request_rows, max_batches, seed)
    sample = sampled_rows(step, rows, before, every, keys, request_rows, heavy_rows)
    settings = []
    for plan in every:
        batches = [sample.batch(plan, batch) for batch in plan.batches]
        found = batch_statistics(batches, plan.num_batches, sample, sample.known)
        settings.append(
            {
                "order": plan.order,
                "batch_size": plan.batch_size,
                **found,
                "tail_items_seen": None,
                "spread": None,
            }
        )
    options = {
        "orders": orders,
        "batch_sizes": sizes,
        "batch_sizes_left_out": sorted(set(batch_sizes) - set(sizes)),
        "max_batches": max_batches,
        "spread_buffer": None,
        "seed": seed,
    }
    report = report_of(facts, options, settings)
    step.folder.write_text(_REPORT, json.dumps(report, indent=1, allow_nan=False))
    step.folder.write_text(_PAGE, page(report))
    step.folder.finish([_REPORT, _PAGE])
    return report
