"""Plots what run.py wrote, CPU time against corpus size, and prints it as a table.

cd benchmarks/corpus_metrics
python plot.py results.csv ../../docs/images/corpus_metrics.png
"""

import argparse
import csv

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NAMES = {
    "ours": ("`CorpusRecall`", "#1f6feb", "-"),
    "ours_by_id": ("`CorpusRecall`, by id", "#1f6feb", "--"),
    "ours_all": ("`CorpusRecall`, all four measures", "#1f6feb", ":"),
    "tfrs": ("`FactorizedTopK`", "#d1242f", "-"),
    "tfrs_by_id": ("`FactorizedTopK`, by id", "#d1242f", "--"),
}


def plot(rows, path):
    chart = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot()
    for subject, (name, color, style) in NAMES.items():
        points = sorted(
            (int(row["candidates"]), float(row["cpu_s"]))
            for row in rows
            if row["subject"] == subject
        )
        label = name.replace("`", "")
        axes.plot(*zip(*points, strict=True), style, color=color, label=label)
    label = "CPU time of an evaluation, s"
    axes.set(xscale="log", yscale="log", xlabel="candidates (d = 64)", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    chart.savefig(path, dpi=150)


def table(rows):
    print(
        "| candidates | | wall, s | CPU, s | TFRS / this, wall | CPU "
        "| peak growth, MiB | largest difference to `FactorizedTopK` by id |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [
            f"{int(row['candidates']):,}",
            NAMES[row["subject"]][0],
            f"{float(row['wall_s']):.1f}",
            f"{float(row['cpu_s']):.1f}",
            f"{float(row['tfrs_over_this_wall']):.1f}",
            f"{float(row['tfrs_over_this_cpu']):.1f}",
            f"{float(row['memory_mib']):.0f}",
            f"{float(row['largest_difference']):.4f}".replace("0.0000", "0"),
        ]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("image")
    arguments = parser.parse_args()
    with open(arguments.results, newline="") as file:
        rows = list(csv.DictReader(file))
    plot(rows, arguments.image)
    table(rows)


if __name__ == "__main__":
    main()
