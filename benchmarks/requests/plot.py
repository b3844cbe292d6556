"""Plots what recovery.py wrote: recall by the order of rows, with and without masks.

python -m benchmarks.requests.plot
"""

import numpy as np

from benchmarks.common import plots
from benchmarks.requests.recovery_runs import BATCH, EPOCHS, ROWS, chosen

NAMES = {
    "online_retail": "Online Retail, last items",
    "diginetica": "Diginetica, last clicks",
    "movielens": "MovieLens 100K, last movies",
    "online_retail_users": "Online Retail, user ids",
}
ORDERS = "shuffled", "sorted", "spread"
TASKS = {
    "plain": ("TFRS", plots.RED, -0.2),
    "masked": ("the request's rows masked", plots.BLUE, 0.2),
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
                axes.axhline(mean, color=plots.GREY, linestyle="--", linewidth=1)
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
    chart = plots.new(2.9 * len(names), 3.6)
    panels = chart.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        draw(axes, rows, name)
    panels[0].set_ylabel("recall@20 (points: seeds)")
    handles, labels = panels[0].get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    chart.legend(
        first.values(), first, loc="outside lower center", ncols=2, frameon=False
    )
    plots.save(chart, path)


if __name__ == "__main__":
    plots.plot_rows(__doc__, ROWS, plot, "request_recovery.png")
