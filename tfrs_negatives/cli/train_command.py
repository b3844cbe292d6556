"""`tfrs-negatives train`: compares ours with what else one would take, exports it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.cli import comparison, row_names
from tfrs_negatives.cli.answer_lines import answer_lines
from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.comparison import FIGURES
from tfrs_negatives.cli.output_folder import OutputFolder
from tfrs_negatives.cli.quiet_scann import quiet_scann
from tfrs_negatives.cli.rows_read import rows_read
from tfrs_negatives.cli.terminal_text import terminal_text
from tfrs_negatives.recommender import held_out_figures, optimizer_choice
from tfrs_negatives.version import __version__

if TYPE_CHECKING:
    from tfrs_negatives.recommender import Recommender
    from tfrs_negatives.recommender.settings import Settings
    from tfrs_negatives.recommender.time_split import Split
    from tfrs_negatives.recommender.towers_of import FeatureTables

COMMAND = "tfrs-negatives train"
#: Written without an index: what `audit --model` reads.
EMBEDDINGS = "embeddings.npz"

# Facts that are told in other words than those of `figures.json`.
_REQUESTS = "training requests"
_TIES = "in a history, rows of its time"


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
        settings = settings_of(options)
        parts, features = _load(options, settings, scratch)
        settings = parts.training.chosen(settings)
        # Models are imported once the table is known to be as it should be.
        from tfrs_negatives.cli import report_page, trade_off
        from tfrs_negatives.cli.compared import compare
        from tfrs_negatives.recommender.example_users import example_users
        from tfrs_negatives.recommender.settings import LEFT_TO_THE_TABLE

        facts = _facts(parts)
        optimizer = optimizer_choice.told(
            settings.optimizer,
            len(parts.training.user_ids),
            len(parts.training.item_ids),
        )
        chosen = {name: getattr(settings, name) for name in LEFT_TO_THE_TABLE}
        shown = {**facts, "optimizer": optimizer}
        shown |= {n.replace("_", " "): value for n, value in chosen.items()}
        print("\n".join(_in_words(shown, parts)))
        compared = compare(parts, features, settings, options)
        recommender = compared.recommender
        if options.all_rows:
            if options.verbose:
                print(f"\n{row_names.OURS}, on all rows", flush=True)
            recommender.train_on_all(parts, features, options.verbose)
        exported = _export(recommender, output.folder, options)
        figures = comparison.summary(compared.runs)
        notes = held_out_figures.notes(parts.held_out, parts.training.item_counts)
        notes += compared.left_out
        notes += filter(None, [trade_off.told(compared.trade_off)])
        if options.all_rows:
            notes.append(_trained_on_all(recommender, options))
        written: dict[str, Any] = {
            "command": COMMAND,
            "version": __version__,
            "data": facts,
            "settings": {**vars(options), **chosen},
            "optimizer": optimizer,
            "figures": figures,
            "validation": compared.curves,
            "popularity": compared.trade_off,
            "notes": notes,
            "model": {
                "trained as": row_names.OURS,
                "trained on": "all rows" if options.all_rows else "training rows",
                "epochs": recommender.epochs,
                "seed": recommender.seed,
                **exported,
            },
        }
        seeds = " ".join(map(str, options.seeds))
        title = f"{parts.table.source}, seeds {seeds}: mean and standard deviation"
        comparison.plot(figures, os.path.join(output.folder, "figures.png"), title)
        assert recommender.towers is not None
        examples = example_users(recommender.towers, parts.held_out.users)
        _write(output, report_page.REPORT, report_page.page(written, examples))
        lines = [comparison.table(figures, options.seeds), "", *notes]
        lines += ["", *_answer(recommender)]
        written["seconds"] = round(time.perf_counter() - start, 1)
        written["peak memory, MiB"] = _peak_memory_mib()
        _write(output, FIGURES, json.dumps(written, indent=2, allow_nan=False))
    print("\n" + "\n".join(lines))
    report = os.path.join(output.path, report_page.REPORT)
    print(
        f"\nWrote {output.path} after {written['seconds']:.0f} s. Peak memory: "
        f"{written['peak memory, MiB']} MiB. "
        f"{_what_next(output.path, options)}\nOpen {report} in a browser."
    )


def _write(output: OutputFolder, name: str, text: str) -> None:
    with open(os.path.join(output.folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def _trained_on_all(recommender: Recommender, options: argparse.Namespace) -> str:
    wrote = "model/ is" if options.index else f"{EMBEDDINGS} are of one"
    return (
        "note: figures are of a model trained without the held-out rows; "
        f"{wrote} trained on all rows (epochs: {recommender.epochs})."
    )


def _answer(recommender: Recommender) -> list[str]:
    """What the model says to the first user, as `tfrs-negatives query` prints it."""
    assert recommender.towers is not None
    training = recommender.towers.training
    user = training.user_ids[0]
    found = recommender.recommend(user, k=10)
    answer = {
        "ids": [one.item for one in found],
        "scores": [one.score for one in found],
    }
    if training.titles is not None:
        answer["title"] = [one.title for one in found]
    first = (
        f"Recommendations of our model for user {terminal_text(user)}, without the "
        "items that the user has:"
    )
    return [first, *answer_lines(answer, score="score (cosine)")]


def _what_next(path: str, options: argparse.Namespace) -> str:
    if not options.index:
        return f"Its {EMBEDDINGS} are those of ours of seed {options.seeds[-1]}."
    return (
        f"Its model/ is ours of seed {options.seeds[-1]}; ask it with\n"
        f"  tfrs-negatives query {path} --user ID"
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings among the command's arguments."""
    from tfrs_negatives.recommender.settings import Settings

    given: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        value = getattr(options, field.name)
        given[field.name] = tuple(value) if isinstance(value, list) else value
    with told_in_one_line():
        return Settings(**given)


def _load(
    options: argparse.Namespace, settings: Settings, scratch: str
) -> tuple[Split, FeatureTables]:
    """The split table, whose rows are in the folder `scratch` if they are many."""
    from tfrs_negatives.recommender.source import ROLES, Source
    from tfrs_negatives.recommender.time_split import split

    source = Source(
        options.data,
        options.tfds,
        options.data_dir,
        columns={role: getattr(options, role) for role in ROLES},
        held_out=options.held_out,
        users=options.users,
        items=options.items,
    )
    with told_in_one_line():
        parts, held_out = source.parts(), source.held_out_parts()
        _check_environment()
        with rows_read(options.verbose) as progress:
            found = split(
                parts,
                scratch,
                held_out=held_out,
                **settings.split_options(),
                validation=options.validation,
                evaluated_users=options.evaluate_users,
                progress=progress,
            )
        features = source.features(settings.user_features, settings.item_features)
    return found, features


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
    table, held_out, training = parts.table, parts.held_out, parts.training
    new: dict[str, Any] = {}
    if table.first_held_out is not None:
        new["held-out users never in training"] = parts.num_new_users
    if training.histories is not None and table.times is not None:
        new[_TIES] = training.histories.ties
    return {
        "data": table.source,
        "interactions": table.num_rows,
        "dropped by label": table.num_dropped,
        "order": "file" if table.times is None else "time",
        "times": table.time_range,
        "training interactions": len(training.rows),
        _REQUESTS: training.rows.num_requests,
        "users": len(training.user_ids),
        "items": len(training.item_ids),
        "held-out pairs": held_out.num_pairs,
        "of items never in training": held_out.num_unknown,
        "users evaluated": len(held_out.users),
        **new,
    }


def _in_words(shown: dict[str, Any], parts: Split) -> list[str]:
    """What `_facts` and the settings hold, in words that need no documentation."""
    ties = {
        "above": "those above it in the table",
        "unseen": "none",
    }
    names = {
        _TIES: "of rows of the same time, a row's history has",
        "unknown share": "share of rows trained as rows of an unknown user",
    }
    values = {_TIES: ties.get(shown.get(_TIES, ""))}
    if parts.table.requests is None:
        of = "user" if parts.table.times is None else "day of a user (UTC)"
        values[_REQUESTS] = f"{shown[_REQUESTS]} (no --request: each {of} is one)"
    return [
        f"{names.get(name, name)}: {values.get(name, value)}"
        for name, value in shown.items()
    ]


def _export(
    recommender: Recommender, folder: str, options: argparse.Namespace
) -> dict[str, str | None]:
    """Writes the SavedModel, or embeddings; returns what kind of index it has."""
    model = os.path.join(folder, "model")
    if options.live:
        recommender.export(model, live=True)
        return {"index": "LiveIndex"}
    if options.index:
        from tfrs_negatives.recommender.export import default_index

        index = default_index()
        with quiet_scann():
            recommender.export(model, index=index)
        return {"index": type(index).__name__}
    towers = recommender.towers
    assert towers is not None
    np.savez(
        os.path.join(folder, EMBEDDINGS),
        user_ids=_plain(towers.training.user_ids),
        item_ids=_plain(towers.training.item_ids),
        user_embeddings=towers.embed_users(),
        item_embeddings=towers.embed_items(),
    )
    return {"index": None}


def _plain(ids: np.ndarray) -> np.ndarray:
    """Ids with strings of fixed width: objects would be pickled."""
    return ids.astype(str) if ids.dtype == object else ids


def _peak_memory_mib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1024)  # Linux counts in KiB.
