"""Plots what run.py wrote: step time and memory against the batch, log-log.

python benchmarks/kernel/plot.py benchmarks/kernel/results.csv docs/images
"""

import argparse
import csv
import pathlib

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NAMES = {
    "ours": ("tfrs_negatives, all corrections", "#1f6feb", "-"),
    "tfrs": ("TFRS, the same corrections", "#d1242f", "-"),
    "tfrs_plain": ("TFRS, plain", "#d1242f", ":"),
    "keras_rs": ("keras-rs (masks nothing)", "#bf8700", ":"),
    "torch_eager": ("PyTorch, eager", "#8250df", "-"),
    "torch_compiled": ("PyTorch, compiled", "#8250df", "--"),
    "floor": ("floor: 3 products, 1 softmax", "#57606a", "--"),
}
QUANTITIES = {
    "cpu_ms": ("CPU time of a step, ms", "kernel_time.png"),
    "memory_mib": ("peak memory growth, MiB", "kernel_memory.png"),
}


def plot(rows, quantity, path):
    """Writes one chart of the width-64, K = 0 rows of the table."""
    label, _ = QUANTITIES[quantity]
    chart = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for subject, (name, color, style) in NAMES.items():
        points = sorted(
            (int(row["rows"]), float(row[quantity]))
            for row in rows
            if row["subject"] == subject
        )
        if points:
            axes.plot(*zip(*points, strict=True), style, color=color, label=name)
    axes.set(xscale="log", yscale="log", xlabel="batch size B (d = 64)", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    chart.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    with open(arguments.results, newline="") as file:
        rows = [
            r for r in csv.DictReader(file) if r["width"] == "64" and r["extra"] == "0"
        ]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for quantity, (_, name) in QUANTITIES.items():
        plot(rows, quantity, arguments.folder / name)


if __name__ == "__main__":
    main()
