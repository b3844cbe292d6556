"""Plots what false_negatives.py wrote: the share of false negatives by rank.

python -m benchmarks.mining.plot
"""

import pathlib

import numpy as np

from benchmarks.common import plots

ROWS = pathlib.Path(__file__).with_name("false_negatives.csv")

WAYS = {
    "user": ("by the user's embedding", plots.BLUE),
    "user, margin": ("the same, 5% below the positive's score", plots.YELLOW),
    "item": ("by the positive item's embedding", plots.RED),
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
    chart = plots.new(7, 4.2)
    axes = chart.add_subplot()
    for way, (name, color) in WAYS.items():
        bands, values = rates(rows, way)
        low, mean, high = (f(axis=1) for f in (values.min, values.mean, values.max))
        style = {"marker": ".", "color": color, "label": name}
        plots.draw_band(axes, range(len(bands)), low, mean, high, **style)
    axes.set_xticks(
        range(len(bands)), [f"{low:,}-{high:,}" for low, high in bands], fontsize=8
    )
    _, random = rates(rows, "random")
    axes.axhline(random.mean(), color=plots.GREY, linestyle="--", label="a random item")
    axes.set(
        yscale="log",
        xlabel="rank that negatives were mined at",
        ylabel="share that is a held-out positive",
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    plots.save(chart, path)


if __name__ == "__main__":
    plots.plot_rows(__doc__, ROWS, plot, "mining_false_negatives.png")
