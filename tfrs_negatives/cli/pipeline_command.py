"""`tfrs-negatives pipeline`: steps before and after training on Apache Beam."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from tfrs_negatives.cli.command_error import told_in_one_line
from tfrs_negatives.cli.output_lock import OutputLock

_ROLES = ("user", "item", "request", "time", "label", "title")


def pipeline(options: argparse.Namespace) -> None:
    """Runs the command.

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: Input or output are not as they should be, or the runner failed.
    """
    with told_in_one_line():
        from tfrs_negatives import pipeline as steps

        given: dict[str, Any] = {
            "engine": steps.BeamEngine(
                options.runner, options.workers, tuple(options.runner_options)
            ),
            "progress": _tell if options.verbose else None,
        }
        if hasattr(options, "user"):
            given["columns"] = {role: getattr(options, role) for role in _ROLES}
        with _locked(options.output), _kept():
            _STEPS[options.step](steps, options, given)
    print(f"Wrote {options.output}")


def _count(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    steps.count_column(
        options.input,
        options.output,
        options.role,
        num_shards=options.shards or 1,
        **given,
    )


def _order(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    steps.order_by_request(
        options.input,
        options.output,
        options.order,
        shards=options.shards,
        heavy_rows=options.heavy_rows,
        seed=options.seed,
        **given,
    )


def _split(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    steps.split_by_time(
        options.input,
        options.output,
        shards=options.shards,
        heavy_rows=options.heavy_rows,
        **given,
    )


def _audit(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    from tfrs_negatives.audit import audit_summary

    report = steps.audit_table(
        options.input,
        options.output,
        batch_sizes=options.batch_sizes,
        orders=options.orders,
        max_batches=options.max_batches,
        seed=options.seed,
        heavy_rows=options.heavy_rows,
        **given,
    )
    print(f"{audit_summary.facts(report)}\n\n{audit_summary.summary(report)}\n")


def _embed(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    steps.embed_rows(
        options.input,
        options.output,
        options.model,
        options.id,
        signature=options.signature,
        features=dict(options.feature),
        shards=options.shards,
        batch_size=options.batch_size,
        **given,
    )


def _mine(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    steps.mine_negatives(
        options.queries,
        options.items,
        options.output,
        options.negatives,
        positives=options.positives,
        range_min=options.range_min,
        range_max=options.range_max,
        max_score=options.max_score,
        sampling=options.sampling,
        seed=options.seed,
        **given,
    )


def _recall(steps: Any, options: argparse.Namespace, given: dict[str, Any]) -> None:
    figures = steps.corpus_recall(
        options.queries,
        options.items,
        options.input,
        options.output,
        excluded=options.exclude,
        ks=options.ks,
        measures=options.measures,
        **given,
    )
    for name, value in figures.items():
        print(
            f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value:.4f}"
        )


_STEPS = {
    "count": _count,
    "order": _order,
    "split": _split,
    "audit": _audit,
    "embed": _embed,
    "mine": _mine,
    "recall": _recall,
}


@contextlib.contextmanager
def _locked(output: str) -> Iterator[None]:
    """One writer of an output at a time, where the file system has locks."""
    if "://" in output:
        yield
        return
    target = os.path.realpath(output)
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    lock = OutputLock(folder, target)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Says, after an interrupt, that the work of it is not lost."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print("note: started again, the step goes on where it was", file=sys.stderr)
        raise


def _tell(line: str) -> None:
    print(line, flush=True)
