"""Fits what is compared, and measures all of it on the same held-out pairs."""

from __future__ import annotations

import argparse
import dataclasses
import gc
from collections.abc import Callable
from typing import Any

from tfrs_negatives.cli import baselines, comparison, row_names, tfrs_models, trade_off
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.false_negatives import false_negative_rates
from tfrs_negatives.recommender import Recommender, fitting, held_out_figures
from tfrs_negatives.recommender.settings import Settings
from tfrs_negatives.recommender.time_split import Split
from tfrs_negatives.recommender.towers_of import FeatureTables, Towers

_TFRS: dict[str, Callable[..., tfrs_models.PlainModel]] = {
    row_names.PLAIN: tfrs_models.plain_model,
    row_names.CORRECTED: tfrs_models.corrected_model,
}


@dataclasses.dataclass
class Compared:
    """What was found.

    Attributes:
      runs: What `comparison.summary` takes.
      curves: Validation of each epoch, by model, for each seed.
      trade_off: What `trade_off.summary` returns.
      left_out: Sentences about baselines that were left out.
      recommender: Ours of the last seed.
    """

    runs: comparison.Runs
    curves: dict[str, list[list[float]]]
    trade_off: dict[str, Any]
    left_out: list[str]
    recommender: Recommender


def compare(
    parts: Split,
    features: FeatureTables,
    settings: Settings,
    options: argparse.Namespace,
) -> Compared:
    """Fits the baselines; trains and evaluates the models for every seed.

    Args:
      parts: `Split`.
      features: `FeatureTables`.
      settings: Of all models.
      options: The command's arguments.

    Raises:
      CommandError: Training has diverged.
    """
    runs: comparison.Runs = {}
    left_out = []
    for name in row_names.BASELINES:
        if name in options.baselines:
            measured = baselines.figures(name, parts, progress=options.verbose == 1)
            if isinstance(measured, str):
                left_out.append(measured)
            else:
                runs[name] = [measured]
    names = [
        name
        for name in row_names.MODELS
        if name == row_names.OURS or name in options.baselines
    ]
    runs |= {name: [] for name in names}
    curves: dict[str, list[list[float]]] = {name: [] for name in names}
    dials: list[trade_off.OfSeed] = []
    for seed in options.seeds:
        for name in names:
            if options.verbose:
                print(f"\n{name}, seed {seed}", flush=True)
            # The tables of two models need not be there at once.
            recommender: Any = None
            gc.collect()
            try:
                if name == row_names.OURS:
                    recommender = Recommender(settings, seed=seed)
                    found = recommender.evaluate(parts, features, options.verbose)
                    fitted = recommender.fitted
                    dials.append(trade_off.measured(recommender, parts))
                else:
                    found, fitted = _tfrs(
                        name, parts, features, settings, seed, options.verbose
                    )
            except FloatingPointError as error:
                raise CommandError(f"{name}, seed {seed}: {error}") from error
            runs[name].append({**found, **_costs(fitted, settings)})
            curves[name].append(list(fitted.curve))
        before, after = false_negative_rates(recommender.towers, settings, seed)
        for name in names:
            runs[name][-1] |= {
                comparison.BEFORE: before,
                # TFRS has no masks of keys.
                comparison.AFTER: after if name == row_names.OURS else before,
            }
    dial = trade_off.summary(dials, parts)
    return Compared(runs, curves, dial, left_out, recommender)


def _tfrs(
    name: str,
    parts: Split,
    features: FeatureTables,
    settings: Settings,
    seed: int,
    verbose: int,
) -> tuple[dict[str, float | None], fitting.Fitted]:
    """Trains and measures a model of TFRS as ours is."""
    towers = Towers(parts.fitted, features, settings, seed)
    fitted = fitting.fit(
        _TFRS[name](towers),
        parts.fitted,
        towers,
        settings,
        seed,
        prepared=lambda rows: towers.attach(rows, has_catalogue=False),
        validation=parts.validation,
        verbose=verbose,
    )
    found = held_out_figures.figures(
        towers.embed_users(parts.held_out.users, parts.training.histories),
        towers.embed_items(),
        parts.held_out,
        parts.training.item_counts,
    )
    return found, fitted


def _costs(fitted: fitting.Fitted, settings: Settings) -> dict[str, float | None]:
    return {
        comparison.SECONDS: fitted.seconds,
        comparison.STEP_TIME: fitted.step_ms,
        comparison.ROWS_A_SECOND: fitted.rows_a_second,
        comparison.WIDTH: settings.dim,
    }
