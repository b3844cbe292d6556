"""Plots what run.py wrote, log-log against the batch, and prints it as a table.

cd benchmarks/kernel
python plot.py results.csv peers.csv ../../docs/images
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


def table(rows):
    """Ours against its peers, as Markdown: ratios of wall and of CPU time."""
    subjects = "ours", "ours_plain", "tfrs", "floor"
    print("| B | K | d | TFRS / ours | ours / floor | ours / ours plain | MiB |")
    print("|---|---|---|---|---|---|---|")
    sizes = {tuple(int(row[f]) for f in ("rows", "extra", "width")) for row in rows}
    for size in sorted(sizes, key=lambda size: (size[2], size[1] > 0, size[0])):
        here = {
            row["subject"]: row
            for row in rows
            if tuple(int(row[f]) for f in ("rows", "extra", "width")) == size
        }
        ours, plain, tfrs, floor = map(here.get, subjects)

        def ratio(one, other):
            if one is None or other is None:
                return ""
            ratios = (
                float(one[field]) / float(other[field])
                for field in ("wall_ms", "cpu_ms")
            )
            return ", ".join(f"{value:.2f}" for value in ratios)

        memory = [f"{float(row['memory_mib']):,.0f}" for row in (ours, tfrs) if row]
        cells = [
            *(f"{number:,}" for number in size),
            ratio(tfrs, ours),
            ratio(ours, floor),
            ratio(ours, plain),
            " / ".join(memory),
        ]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, nargs="+")
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    everything = []
    for path in arguments.results:
        # A further run, such as that of the peers, adds what it alone has.
        known = {row["subject"] for row in everything}
        with open(path, newline="") as file:
            everything += [r for r in csv.DictReader(file) if r["subject"] not in known]
    rows = [r for r in everything if r["width"] == "64" and r["extra"] == "0"]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for quantity, (_, name) in QUANTITIES.items():
        plot(rows, quantity, arguments.folder / name)
    table(everything)


if __name__ == "__main__":
    main()
