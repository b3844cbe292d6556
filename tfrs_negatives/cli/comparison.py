"""The comparison as a table, as a dict for JSON, and as a plot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from tfrs_negatives.cli import row_names
from tfrs_negatives.types import PathLike

#: The file that `train` writes the comparison to.
FIGURES = "figures.json"

BEFORE = "false negatives before masks"
AFTER = "false negatives after masks"
SECONDS = "training, s"
STEP_TIME = "step time, ms"
ROWS_A_SECOND = "rows a second"
WIDTH = "vector width"

#: From model to a dict from figure to number or None, one a seed.
Runs: TypeAlias = dict[str, list[dict[str, float | None]]]

_EMPTY = "-"
# Figures that do not lie between 0 and 1, and how many digits they are told with.
_DIGITS = {SECONDS: 1, STEP_TIME: 2, ROWS_A_SECOND: 0, WIDTH: 0}
_BY_SEED = ("recall@50", "tail recall@50")
_COLORS = {
    row_names.POPULARITY: "#e3e7eb",
    row_names.NEIGHBOURS: "#c9d1d9",
    row_names.EASE: "#57606a",
    row_names.PLAIN: "#9aa5b1",
    row_names.CORRECTED: "#8fb8f6",
    row_names.OURS: "#1f6feb",
}


def summary(runs: Runs) -> dict[str, Any]:
    """Mean, standard deviation and values by seed of every figure.

    Args:
      runs: `Runs`. Every model has the figures of ours.

    Returns:
      Dict from model to dict from figure to {"mean", "std", "by_seed"}; the standard
      deviation is the sample's, 0 for a single seed. All are None for a figure that
      there is none of, such as the step time of what has no steps.
    """
    return {
        model: {
            figure: mean_and_deviation([run.get(figure) for run in of_seeds])
            for figure in runs[row_names.OURS][0]
        }
        for model, of_seeds in runs.items()
    }


def table(summarised: dict[str, Any], seeds: Sequence[int]) -> str:
    """The comparison as aligned lines of text.

    Args:
      summarised: What `summary` returns.
      seeds: The seeds, in the order of the values.
    """
    rows: list[tuple[str, ...]] = [("", *summarised)]
    for figure in summarised[row_names.OURS]:
        cells = [cell(of_model[figure], figure) for of_model in summarised.values()]
        rows.append((figure, *cells))
    if len(seeds) > 1:
        rows.append(("",) * (1 + len(summarised)))
    for figure in _BY_SEED if len(seeds) > 1 else ():
        for place, seed in enumerate(seeds):
            values = [_of_seed(m[figure], place) for m in summarised.values()]
            rows.append((f"{figure}, seed {seed}", *map(_four_digits, values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def plot(summarised: dict[str, Any], path: PathLike, title: str) -> None:
    """Writes a bar chart of the figures that are shares, as PNG.

    Args:
      summarised: What `summary` returns.
      path: The file.
      title: Title of the chart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [
        name
        for name, found in summarised[row_names.OURS].items()
        if name not in _DIGITS and found["mean"] is not None
    ]
    chart = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    places = np.arange(len(names))
    width = 0.8 / len(summarised)
    for number, model in enumerate(summarised):
        means = [summarised[model][name]["mean"] for name in names]
        deviations = [summarised[model][name]["std"] for name in names]
        bars = axes.bar(
            places + (number - (len(summarised) - 1) / 2) * width,
            [mean or 0 for mean in means],
            0.95 * width,
            yerr=[deviation or 0 for deviation in deviations],
            color=_COLORS[model],
            label=model,
        )
        if model == row_names.OURS:
            labels = [_three_digits(mean) for mean in means]
            axes.bar_label(bars, labels, padding=2, fontsize=8)
    labels = [textwrap.fill(name, 15) for name in names]
    axes.set_xticks(places, labels, fontsize=8)
    axes.set_ylabel("share (false negatives: lower is better)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    axes.legend(frameon=False)
    chart.savefig(path, dpi=150)


def _of_seed(statistics: dict[str, Any], place: int) -> float | None:
    """What is not trained has one value for all seeds."""
    values = statistics["by_seed"]
    return values[place if len(values) > 1 else 0]


def mean_and_deviation(values: list[float | None]) -> dict[str, Any]:
    """Mean, standard deviation and values of one figure, by seed; see `summary`."""
    if None in values:  # What is None is so for every seed: of an empty group.
        return {"mean": None, "std": None, "by_seed": values}
    numbers = [float(value) for value in values if value is not None]
    return {
        "mean": float(np.mean(numbers)),
        "std": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0,
        "by_seed": numbers,
    }


def cell(statistics: dict[str, Any], figure: str) -> str:
    """A figure as the table has it: mean, and deviation of several seeds."""
    if statistics["mean"] is None:
        return _EMPTY
    digits = _DIGITS.get(figure, 4)
    mean = f"{statistics['mean']:.{digits}f}"
    if len(statistics["by_seed"]) == 1:
        return mean
    return f"{mean} ± {statistics['std']:.{digits}f}"


def _four_digits(value: float | None) -> str:
    return _EMPTY if value is None else f"{value:.4f}"


def _three_digits(value: float) -> str:
    return f"{value:.3f}"
