"""`tfrs-negatives train`: both models on the same batches, compared and exported."""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import resource
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.cli import (
    comparison,
    held_out_figures,
    optimizer_choice,
    row_names,
)
from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.comparison import FIGURES, Runs
from tfrs_negatives.cli.output_folder import OutputFolder
from tfrs_negatives.cli.time_split import Split, split
from tfrs_negatives.data import table_sources
from tfrs_negatives.version import __version__

if TYPE_CHECKING:
    from tfrs_negatives.cli.compared_models import RightNegativesModel

COMMAND = "tfrs-negatives train"
#: Written without an index: what `audit --model` reads.
EMBEDDINGS = "embeddings.npz"
_ROLES = ("user", "item", "request", "time", "label", "title")


def train(options: argparse.Namespace) -> None:
    """Runs the command.

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: Data, output folder, packages or results are not as they should
        be. Nothing has been written then.
    """
    start = time.perf_counter()
    with (
        OutputFolder(options.output, COMMAND) as output,
        # Beside the output: a disk with room for it has room for rows.
        tempfile.TemporaryDirectory(prefix="rows.", dir=output.folder) as scratch,
    ):
        parts = _load(options, scratch)
        facts = _facts(parts)
        optimizer = optimizer_choice.told(
            options.optimizer, len(parts.user_ids), len(parts.item_ids)
        )
        shown = {**facts, "optimizer": optimizer}
        print("\n".join(f"{name}: {value}" for name, value in shown.items()))
        runs, model, left_out = _compare(parts, options)
        figures = comparison.summary(runs)
        notes = held_out_figures.notes(parts.held_out, parts.item_counts) + left_out
        lines = [comparison.table(figures, options.seeds), "", *notes]
        print("\n" + "\n".join(lines), flush=True)
        exported = _export(model, parts, output.folder, options)
        seeds = " ".join(map(str, options.seeds))
        title = f"{parts.table.source}, seeds {seeds}: mean and standard deviation"
        comparison.plot(figures, os.path.join(output.folder, "figures.png"), title)
        written = {
            "command": COMMAND,
            "version": __version__,
            "data": facts,
            "settings": vars(options),
            "optimizer": optimizer,
            "figures": figures,
            "notes": notes,
            "model": {
                "trained as": row_names.OURS,
                "seed": options.seeds[-1],
                **exported,
            },
            "seconds": round(time.perf_counter() - start, 1),
            "peak memory, MiB": _peak_memory_mib(),
        }
        path = os.path.join(output.folder, FIGURES)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(written, file, indent=2, allow_nan=False)
    print(
        f"Wrote {output.path} after {written['seconds']:.0f} s, with "
        f"{written['peak memory, MiB']} MiB at the most. "
        + _what_next(output.path, parts, options)
    )


def _what_next(path: str, parts: Split, options: argparse.Namespace) -> str:
    if not options.index:
        return f"Its {EMBEDDINGS} are those of ours of seed {options.seeds[-1]}."
    return (
        f"Its model/ is ours of seed {options.seeds[-1]}; ask it with\n"
        f"  tfrs-negatives query {path} --user {parts.user_ids[0]}"
    )


def _load(options: argparse.Namespace, scratch: str) -> Split:
    """The split table, whose rows are in the folder `scratch` if they are many."""
    with told_in_one_line():
        parts = table_sources.parts(
            options.data,
            options.tfds,
            options.data_dir,
            {role: getattr(options, role) for role in _ROLES},
        )
        _check_environment()
    found = split(
        parts,
        scratch,
        validation=options.validation,
        evaluated_users=options.evaluate_users,
        progress=_tell if options.verbose else None,
    )
    if options.verbose:
        print()
    return found


def _tell(num_rows: int) -> None:
    print(f"\r{num_rows:,} rows read", end="", flush=True)


def _check_environment() -> None:
    import matplotlib  # noqa: F401  If missing, say so now and not after training.

    from tfrs_negatives._keras import IS_KERAS_3

    if IS_KERAS_3:
        raise CommandError(
            "`train` runs under Keras 2 alone, which plain TensorFlow Recommenders "
            "needs: expected TF_USE_LEGACY_KERAS=1 or unset, received "
            f"{os.environ.get('TF_USE_LEGACY_KERAS')!r}. Unset it."
        )


def _facts(parts: Split) -> dict[str, Any]:
    """What was loaded and how it was split, for people."""
    table, held_out = parts.table, parts.held_out
    return {
        "data": table.source,
        "interactions": table.num_rows,
        "dropped by label": table.num_dropped,
        "order": "file" if table.times is None else "time",
        "times": table.time_range,
        "training interactions": len(parts.rows),
        "training requests": parts.rows.num_requests,
        "users": len(parts.user_ids),
        "items": len(parts.item_ids),
        "held-out pairs": held_out.num_pairs,
        "of items never in training": held_out.num_unknown,
        "users evaluated": len(held_out.users),
    }


def _compare(
    parts: Split, options: argparse.Namespace
) -> tuple[Runs, RightNegativesModel, list[str]]:
    """Fits the baselines, and trains and evaluates the models for every seed.

    Returns:
      What `comparison.summary` takes; our model of the last seed; and sentences about
      baselines that were left out.
    """
    from tfrs_negatives.cli import baselines, compared_models, model_fitting
    from tfrs_negatives.cli.false_negatives import false_negative_rates

    runs: Runs = {}
    left_out = []
    for name in row_names.BASELINES:
        if name in options.baselines:
            measured = baselines.figures(name, parts, progress=options.verbose == 1)
            if isinstance(measured, str):
                left_out.append(measured)
            else:
                runs[name] = [measured]
    makers = {
        row_names.PLAIN: compared_models.plain_model,
        row_names.CORRECTED: compared_models.corrected_model,
    }
    names = [
        name
        for name in row_names.MODELS
        if name == row_names.OURS or name in options.baselines
    ]
    runs |= {name: [] for name in names}
    model: Any = None
    for seed in options.seeds:
        for name in names:
            print(f"\n{name}, seed {seed}", flush=True)
            # The tables of two models need not be there at once.
            model = None
            gc.collect()
            prepared = None
            if name in makers:
                model = makers[name](parts, options, seed)
            else:
                model = compared_models.right_negatives_model(parts, options, seed)
                prepared = functools.partial(
                    compared_models.with_negatives,
                    split=parts,
                    options=options,
                    seed=seed,
                )
            times = model_fitting.fit(model, parts, options, seed, prepared)
            evaluated = parts.user_ids[parts.held_out.users]
            try:
                found = held_out_figures.figures(
                    model_fitting.embed(model.user_tower, evaluated),
                    model_fitting.embed(model.item_tower, parts.item_ids),
                    parts.held_out,
                    parts.item_counts,
                )
            except FloatingPointError as error:
                raise CommandError(f"{name}, seed {seed}: {error}") from error
            runs[name].append({**found, **times})
        before, after = false_negative_rates(model, parts, options.batch_size, seed)
        for name in names:
            runs[name][-1] |= {
                comparison.BEFORE: before,
                # TFRS has no masks of keys.
                comparison.AFTER: after if name == row_names.OURS else before,
            }
    return runs, model, left_out


def _export(
    model: RightNegativesModel,
    parts: Split,
    folder: str,
    options: argparse.Namespace,
) -> dict[str, str | None]:
    """Writes the SavedModel, or embeddings; returns what kind of index it has."""
    import tensorflow as tf

    from tfrs_negatives.cli.compared_models import (
        average_unknown,
        knows_positives,
        positives_of_users,
    )
    from tfrs_negatives.cli.model_fitting import embed
    from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval

    items = embed(model.item_tower, parts.item_ids)
    if not options.index:
        np.savez(
            os.path.join(folder, EMBEDDINGS),
            user_ids=_plain(parts.user_ids),
            item_ids=_plain(parts.item_ids),
            user_embeddings=embed(model.user_tower, parts.user_ids),
            item_embeddings=items,
        )
        return {"index": None}
    average_unknown(model.user_tower)
    try:
        index = ScaNN()
    except ImportError:  # It ships for few platforms; exact search is everywhere.
        index = BruteForce()
    index.index(items, tf.constant(parts.item_ids))
    dtype = tf.constant(parts.user_ids[:1]).dtype
    histories = None
    if knows_positives(parts):
        histories = positives_of_users(parts, np.ones(len(parts.user_ids), bool))
    # Scores are cosines, which training divides by the temperature.
    log_q = np.log(parts.item_counts / parts.item_counts.sum())
    export_retrieval(
        os.path.join(folder, "model"),
        model.user_tower,
        index,
        query_signature=tf.TensorSpec([None], dtype, name="user"),
        payload=None if parts.titles is None else {"title": list(parts.titles)},
        popularity=options.temperature * log_q,
        histories=histories,
    )
    return {"index": type(index).__name__}


def _plain(ids: np.ndarray) -> np.ndarray:
    """Ids with strings of fixed width: objects would be pickled."""
    return ids.astype(str) if ids.dtype == object else ids


def _peak_memory_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1024)  # Linux counts in KiB.
