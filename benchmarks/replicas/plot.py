"""Plots what recall.py wrote: recall against the number of replicas.

python -m benchmarks.replicas.plot
"""

import pathlib

import numpy as np

from benchmarks.common import plots

ROWS = pathlib.Path(__file__).with_name("recall.csv")

LINES = {
    "global": ("global negatives", plots.BLUE),
    "local": ("negatives of the replica alone, as in TFRS", plots.RED),
}


def recalls(rows, negatives, k):
    """Replicas, with means and standard deviations over seeds."""
    found = {}
    for row in rows:
        replicas = int(row["replicas"])
        if row["negatives"] == negatives or replicas == 1:
            found.setdefault(replicas, []).append(float(row[f"recall_at_{k}"]))
    places = sorted(found)
    values = [found[place] for place in places]
    return (
        places,
        [np.mean(v) for v in values],
        [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values],
    )


def plot(rows, path):
    chart = plots.new(8, 3.6)
    for axes, k in zip(chart.subplots(1, 2), (20, 100), strict=True):
        for negatives, (name, color) in LINES.items():
            places, means, deviations = recalls(rows, negatives, k)
            axes.errorbar(
                np.log2(places), means, deviations, color=color, capsize=3, label=name
            )
        axes.set_xticks(np.log2(places), places)
        axes.set(title=f"recall@{k}", ylim=(0, None), xlabel="replicas")
        axes.grid(alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    chart.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    plots.save(chart, path)


if __name__ == "__main__":
    plots.plot_rows(__doc__, ROWS, plot, "replica_recall.png")
