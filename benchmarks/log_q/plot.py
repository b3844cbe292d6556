"""Plots what accuracy.py and simulation.py wrote: errors against steps.

python benchmarks/log_q/plot.py benchmarks/log_q docs/images
"""

import argparse
import csv
import pathlib

import numpy as np
from accuracy import averages
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BATCH = 4096
SUBJECTS = {
    # First and wide: sketches without collisions lie on them.
    "exact counts": ("exact counts", "#57606a", "-"),
    "exact counts, forgetting": ("exact counts, forgetting", "#57606a", "--"),
    "count": ("count, 1 hash", "#1f6feb", "-"),
    "count, 4 hashes": ("count, 4 hashes", "#1f6feb", "--"),
    "count, dense": ("count, a bucket an id", "#1f6feb", ":"),
    "published": ("published update", "#d1242f", "-"),
    "published, per draw": ("published update, read per draw", "#d1242f", "--"),
    "published, each repeat": ("published update, each repeat", "#d1242f", ":"),
    "count-min": ("count-min sketch", "#bf8700", "-"),
    "count-min, forgetting": ("count-min sketch, forgetting", "#bf8700", "--"),
}
SIZES = {
    ("1", "5000"): ("1 hash, 5,000 buckets", "#d1242f"),
    ("2", "2500"): ("2 hashes, 2,500 buckets each", "#bf8700"),
    ("4", "1250"): ("4 hashes, 1,250 buckets each", "#1f6feb"),
    ("1", "1000"): ("a bucket an item", "#57606a"),
}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def plot_accuracy(rows, path):
    """A panel a catalogue size, at one batch size, with the switch."""
    table = averages(row for row in rows if int(row["batch"]) == BATCH)
    sizes = sorted({key[0] for key in table})
    chart = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(chart)
    panels = chart.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axes, num_ids in zip(panels, sizes, strict=True):
        keys = [key for key in table if key[0] == num_ids]
        half = max(step for _, _, switched, step in keys if not switched)
        # Steps since the last switch, log scaled in both halves: 1 unit is a factor.
        place = [
            np.log2(step - switched * half) + switched * 8
            for *_, switched, step in keys
        ]
        for subject, (name, color, style) in SUBJECTS.items():
            for switched in (0, 1):
                points = [
                    (x, table[key][subject])
                    for x, key in zip(place, keys, strict=True)
                    if key[2] == switched and subject in table[key]
                ]
                if points:
                    axes.plot(
                        *zip(*points, strict=True),
                        style,
                        color=color,
                        marker=".",
                        linewidth=5 if "exact" in subject else 1.5,
                        alpha=0.3 if "exact" in subject else 1,
                        label=None if switched else name,
                    )
        labels = [step - switched * half for *_, switched, step in keys]
        axes.set_xticks(place, labels, fontsize=7, rotation=45)
        axes.axvline(
            (place[len(place) // 2 - 1] + place[len(place) // 2]) / 2, color="k"
        )
        axes.set(
            title=f"{num_ids:,} ids", yscale="log", xlabel="steps since start | switch"
        )
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"error of log q, nats (B = {BATCH:,})")
    chart.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside right center",
        frameon=False,
        fontsize=8,
    )
    chart.savefig(path, dpi=150)


def plot_simulation(rows, path):
    """Learning curves of the paper's simulation, mean over seeds."""
    chart = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for size, (name, color) in SIZES.items():
        curve = {}
        for row in rows:
            if (row["num_hashes"], row["num_buckets"]) == size:
                curve.setdefault(int(row["step"]), []).append(float(row["error"]))
        steps, errors = list(curve), np.array(list(curve.values()))
        mean, deviation = errors.mean(axis=1), errors.std(axis=1)
        axes.plot(steps, mean, color=color, label=name)
        axes.fill_between(
            steps, mean - deviation, mean + deviation, color=color, alpha=0.2
        )
    axes.set(xlabel="step (order of items reversed at 10,000)", ylim=(0, None))
    axes.set_ylabel("sum |p_hat - p| / 2B")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    chart.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="folder of the tables")
    parser.add_argument("folder", type=pathlib.Path, help="where images go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, plot in (("accuracy", plot_accuracy), ("simulation", plot_simulation)):
        rows = read(arguments.results / f"{name}.csv")
        plot(rows, arguments.folder / f"log_q_{name}.png")


if __name__ == "__main__":
    main()
