"""Plots what recovery.py wrote: recall by the order of rows, with and without masks.

python benchmarks/requests/plot.py benchmarks/requests docs/images
"""

import argparse
import csv
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from recovery_runs import BATCH, EPOCHS, chosen

NAMES = {
    "online_retail": "Online Retail, last items",
    "diginetica": "Diginetica, last clicks",
    "movielens": "MovieLens 100K, last movies",
    "online_retail_users": "Online Retail, user ids",
}
ORDERS = "shuffled", "sorted", "spread"
TASKS = {
    "plain": ("TFRS", "#d1242f", -0.2),
    "masked": ("the request's rows masked", "#1f6feb", 0.2),
}


def values(runs, measure):
    return np.array([float(r[measure]) for r in runs])


def draw(axes, rows, data):
    labels, highest = [], 0.0
    for place, order in enumerate(ORDERS):
        for task, (name, color, offset) in TASKS.items():
            runs = chosen(rows, data=data, order=order, task=task)
            if not runs:
                continue
            recalls = values(runs, "recall_at_20")
            highest = max(highest, recalls.max())
            mean = recalls.mean()
            axes.bar(place + offset, mean, 0.36, color=color, alpha=0.55, label=name)
            axes.plot(
                [place + offset] * len(recalls), recalls, ".", color=color, markersize=6
            )
            if (order, task) == ("shuffled", "plain"):
                axes.axhline(mean, color="#57606a", linestyle="--", linewidth=1)
        runs = chosen(rows, data=data, order=order, task="plain")
        rate = values(runs, "false_negatives").mean() if runs else np.nan
        labels.append(f"{order}\n{100 * rate:.2g}% false")
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(title=NAMES[data], xlim=(-0.5, 2.5), ylim=(0, 1.1 * highest))
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3, axis="y")


def plot(rows, path):
    rows = [
        r
        for r in rows
        if int(r["epochs"]) == EPOCHS[r["data"]] and int(r["batch"]) == BATCH
    ]
    names = [name for name in NAMES if any(r["data"] == name for r in rows)]
    chart = Figure(figsize=(2.9 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(chart)
    panels = chart.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        draw(axes, rows, name)
    panels[0].set_ylabel("recall@20 (points: seeds)")
    handles, labels = panels[0].get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    chart.legend(
        first.values(), first, loc="outside lower center", ncols=2, frameon=False
    )
    chart.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="folder of the table")
    parser.add_argument("folder", type=pathlib.Path, help="where images go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with open(arguments.results / "recovery.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    plot(rows, arguments.folder / "request_recovery.png")


if __name__ == "__main__":
    main()
