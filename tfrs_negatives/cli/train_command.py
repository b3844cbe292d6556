"""`tfrs-negatives train`: both models on the same batches, compared and exported."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import TYPE_CHECKING, Any

from tfrs_negatives.cli import comparison, held_out_figures, optimizer_choice
from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.comparison import FIGURES, Runs
from tfrs_negatives.cli.output_folder import OutputFolder
from tfrs_negatives.cli.time_split import Split, split
from tfrs_negatives.data import Interactions, interactions
from tfrs_negatives.version import __version__

if TYPE_CHECKING:
    from tfrs_negatives.cli.compared_models import RightNegativesModel

COMMAND = "tfrs-negatives train"


def train(options: argparse.Namespace) -> None:
    """Runs the command.

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: Data, output folder, packages or results are not as they should
        be. Nothing has been written then.
    """
    start = time.perf_counter()
    with OutputFolder(options.output, COMMAND) as output:
        table, parts = _load(options)
        facts = _facts(table, parts)
        optimizer = optimizer_choice.told(
            options.optimizer, len(parts.user_ids), len(parts.item_ids)
        )
        shown = {**facts, "optimizer": optimizer}
        print("\n".join(f"{name}: {value}" for name, value in shown.items()))
        runs, model = _compare(parts, options)
        figures = comparison.summary(runs)
        notes = held_out_figures.notes(parts)
        lines = [comparison.table(figures, options.seeds), "", *notes]
        print("\n" + "\n".join(lines), flush=True)
        index = _export(model, parts, os.path.join(output.folder, "model"))
        seeds = " ".join(map(str, options.seeds))
        title = f"{table.name}, seeds {seeds}: mean and standard deviation"
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
                "trained as": comparison.OURS,
                "seed": options.seeds[-1],
                **index,
            },
            "seconds": round(time.perf_counter() - start, 1),
            "peak memory, MiB": _peak_memory_mib(),
        }
        path = os.path.join(output.folder, FIGURES)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(written, file, indent=2, allow_nan=False)
    print(
        f"Wrote {output.path} after {written['seconds']:.0f} s, with "
        f"{written['peak memory, MiB']} MiB at the most. Its model/ is ours of seed "
        f"{options.seeds[-1]}; ask it with\n  tfrs-negatives query {output.path} "
        f"--user {parts.user_ids[0]}"
    )


def _load(options: argparse.Namespace) -> tuple[Interactions, Split]:
    """The table and its split."""
    with told_in_one_line():
        table = interactions(
            options.data,
            tfds=options.tfds,
            data_dir=options.data_dir,
            user=options.user,
            item=options.item,
            request=options.request,
            time=options.time,
            label=options.label,
            title=options.title,
        )
        _check_environment()
    return table, split(table, validation=options.validation)


def _check_environment() -> None:
    import matplotlib  # noqa: F401  If missing, say so now and not after training.

    from tfrs_negatives._keras import IS_KERAS_3

    if IS_KERAS_3:
        raise CommandError(
            "Plain TensorFlow Recommenders is trained for comparison and needs Keras "
            f"2: expected TF_USE_LEGACY_KERAS=1 or unset, received "
            f"{os.environ.get('TF_USE_LEGACY_KERAS')!r}. Unset it."
        )


def _facts(table: Interactions, parts: Split) -> dict[str, Any]:
    """What was loaded and how it was split, for people."""
    return {
        "data": table.name,
        "interactions": len(table),
        "dropped by label": table.num_dropped,
        "order": "time" if table.has_time else "file",
        "times": table.time_range,
        "training interactions": len(parts.user),
        "training requests": int(parts.request.max()) + 1,
        "users": len(parts.user_ids),
        "items": len(parts.item_ids),
        "held-out pairs": len(parts.held_out_user),
        "of items never in training": int((parts.held_out_item < 0).sum()),
    }


def _compare(
    parts: Split, options: argparse.Namespace
) -> tuple[Runs, RightNegativesModel]:
    """Trains and evaluates both models for every seed.

    Returns:
      What `comparison.summary` takes, and our model of the last seed.
    """
    from tfrs_negatives.cli import compared_models, model_fitting
    from tfrs_negatives.cli.false_negatives import false_negative_rates

    runs: Runs = {name: [] for name in comparison.MODELS}
    for seed in options.seeds:
        for name in comparison.MODELS:
            print(f"\n{name}, seed {seed}", flush=True)
            if name == comparison.PLAIN:
                model = compared_models.plain_model(parts, options, seed)
                negatives = None
            else:
                model = compared_models.right_negatives_model(parts, options, seed)
                negatives = compared_models.sampler(parts, options)
            step_time = model_fitting.fit(model, parts, options, seed, negatives)
            try:
                found = held_out_figures.figures(
                    model_fitting.embed(model.user_tower, parts.user_ids),
                    model_fitting.embed(model.item_tower, parts.item_ids),
                    parts,
                )
            except FloatingPointError as error:
                raise CommandError(f"{name}, seed {seed}: {error}") from error
            found[comparison.STEP_TIME] = step_time
            runs[name].append(found)
        before, after = false_negative_rates(model, parts, options.batch_size, seed)
        # Plain TFRS has no masks.
        runs[comparison.PLAIN][-1] |= {
            comparison.BEFORE: before,
            comparison.AFTER: before,
        }
        runs[comparison.OURS][-1] |= {
            comparison.BEFORE: before,
            comparison.AFTER: after,
        }
    return runs, model


def _export(model: RightNegativesModel, parts: Split, path: str) -> dict[str, str]:
    """Writes the SavedModel; returns what kind of index it has."""
    import tensorflow as tf

    from tfrs_negatives.cli.compared_models import average_unknown
    from tfrs_negatives.cli.model_fitting import embed
    from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval

    average_unknown(model.user_tower)
    try:
        index = ScaNN()
    except ImportError:  # It ships for few platforms; exact search is everywhere.
        index = BruteForce()
    index.index(embed(model.item_tower, parts.item_ids), tf.constant(parts.item_ids))
    dtype = tf.constant(parts.user_ids[:1]).dtype
    export_retrieval(
        path,
        model.user_tower,
        index,
        query_signature=tf.TensorSpec([None], dtype, name="user"),
        payload=None if parts.titles is None else {"title": list(parts.titles)},
    )
    return {"index": type(index).__name__}


def _peak_memory_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1024)  # Linux counts in KiB.
