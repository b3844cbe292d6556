"""`tfrs-negatives audit`: what the negatives of a table, and of a model, are."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from tfrs_negatives.cli.command_error import CommandError, told_in_one_line
from tfrs_negatives.cli.comparison import FIGURES
from tfrs_negatives.cli.output_folder import OutputFolder
from tfrs_negatives.cli.query_command import find_model
from tfrs_negatives.cli.rows_read import rows_read

COMMAND = "tfrs-negatives audit"
REPORT = "audit.json"
PAGE = "audit.html"


def audit(options: argparse.Namespace) -> None:
    """Runs the command.

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: Data, model or output folder are not as they should be. Nothing has
        been written then.
    """
    from tfrs_negatives import audit as audits
    from tfrs_negatives.audit.audit_summary import facts, summary

    with OutputFolder(options.output, COMMAND) as output:
        report = {"command": COMMAND, **_measure(options)}
        path = os.path.join(output.folder, REPORT)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1, allow_nan=False)
        path = os.path.join(output.folder, PAGE)
        with open(path, "w", encoding="utf-8") as file:
            file.write(audits.page(report))
    print(facts(report) + "\n\n" + summary(report))
    left_out = report["options"]["batch_sizes_left_out"]
    if left_out:
        print(
            f"note: batch sizes above the number of rows were left out: {left_out}",
            file=sys.stderr,
        )
    print(f"\nWrote {output.path}: open {PAGE} in a browser; {REPORT} has the rest.")


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """The report on the table and the model that options name."""
    from tfrs_negatives import audit as audits

    path, temperature = _model(options)
    with told_in_one_line():
        with rows_read(options.verbose) as progress:
            table = audits.read_table(
                options.data,
                tfds=options.tfds,
                data_dir=options.data_dir,
                user=options.user,
                item=options.item,
                request=options.request,
                time=options.time,
                label=options.label,
                for_model=path is not None,
                progress=progress,
            )
        model = None if path is None else audits.load_model(path, table)
        if model is not None and temperature is None:
            print(
                "note: the model does not say at which temperature it was trained; 1 "
                "is assumed. Pass --temperature",
                file=sys.stderr,
            )
        return audits.measure(
            table,
            model,
            batch_sizes=options.batch_sizes,
            orders=options.orders,
            max_batches=options.max_batches,
            spread_buffer=options.spread_buffer,
            temperature=1.0 if temperature is None else temperature,
            num_probes=options.probes,
            seed=options.seed,
            progress=options.verbose > 0,
        )


def _model(options: argparse.Namespace) -> tuple[str | None, float | None]:
    """The path of the model and its temperature; None for what there is none of."""
    if options.model is None:
        if options.temperature is not None:
            raise CommandError(
                "--temperature belongs to --model, received none. Add --model PATH."
            )
        return None, None
    if options.model.endswith(".npz"):
        path, folder = options.model, os.path.dirname(options.model)
    else:
        path, folder = find_model(options.model), options.model
    temperature = options.temperature
    if temperature is None:
        temperature = _trained_with(os.path.join(folder, FIGURES))
    return path, temperature


def _trained_with(path: str) -> float | None:
    """The temperature in what `train` wrote; None: there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["settings"]["temperature"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
