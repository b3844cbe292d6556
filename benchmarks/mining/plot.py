"""Plots what false_negatives.py wrote: the share of false negatives by rank.

python benchmarks/mining/plot.py benchmarks/mining docs/images
"""

import argparse
import csv
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WAYS = {
    "user": ("by the user's embedding", "#1f6feb"),
    "user, margin": ("the same, 5% below the positive's score", "#bf8700"),
    "item": ("by the positive item's embedding", "#d1242f"),
}


def rates(rows, way):
    """Bands (first rank, last rank), and the rates [bands, seeds]."""
    bands = {}
    for row in rows:
        if row["way"] == way:
            band = int(row["range_min"]) + 1, int(row["range_max"])
            bands.setdefault(band, []).append(float(row["rate"]))
    return list(bands), np.array(list(bands.values()))


def plot(rows, path):
    chart = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for way, (name, color) in WAYS.items():
        bands, values = rates(rows, way)
        mean = values.mean(axis=1)
        axes.plot(range(len(bands)), mean, marker=".", color=color, label=name)
        axes.fill_between(
            range(len(bands)),
            values.min(axis=1),
            values.max(axis=1),
            color=color,
            alpha=0.2,
        )
    axes.set_xticks(
        range(len(bands)), [f"{low:,}-{high:,}" for low, high in bands], fontsize=8
    )
    _, random = rates(rows, "random")
    axes.axhline(random.mean(), color="#57606a", linestyle="--", label="a random item")
    axes.set(
        yscale="log",
        xlabel="rank that negatives were mined at",
        ylabel="share that is a held-out positive",
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    chart.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="folder of the tables")
    parser.add_argument("folder", type=pathlib.Path, help="where images go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with open(arguments.results / "false_negatives.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    plot(rows, arguments.folder / "mining_false_negatives.png")


if __name__ == "__main__":
    main()
