"""Plots what run.py and parts.py wrote: a step of peers, and what ours is made of.

python -m benchmarks.steps.plot
"""

from benchmarks.common import plots
from benchmarks.steps.parts import ROWS as PARTS
from benchmarks.steps.run import ROWS

IMAGE = "whole_step.png"
# (subject, Keras, optimizer or way) of a row, and what the chart calls it.
PEERS = {
    ("ours", "2", "lazy"): ("tfrs_negatives, Keras 2", plots.BLUE),
    ("ours", "3", "lazy"): ("tfrs_negatives, Keras 3", plots.BLUE),
    ("tfrs_plain", "2", "adam"): ("TFRS, no corrections, Adam", plots.RED),
    ("tfrs", "2", "adam"): ("TFRS, the same corrections, Adam", plots.RED),
    ("torch", "", "compiled"): ("PyTorch compiled, SparseAdam", plots.VIOLET),
    ("torch", "", "eager"): ("PyTorch, SparseAdam", plots.VIOLET),
}
# Of the parts, and their colours; together they are the step.
STEP = {
    "gather and towers, forth and back": plots.YELLOW,
    "loss": plots.BLUE,
    "optimizer": plots.RED,
    "input pipeline": plots.GREY,
}


def peers(rows):
    """(label, colour, ms a step) of the large tables, ours of the run against TFRS."""
    found = {}
    for row in rows:
        if row["against"] not in ("tfrs", "torch"):
            continue
        how = row["way"] if row["subject"] == "torch" else row["optimizer"]
        found.setdefault((row["subject"], row["keras"], how), float(row["wall_ms"]))
    return [(*PEERS[key], found[key]) for key in PEERS if key in found]


def shares(rows, keras):
    """(part, colour, its CPU time's share of the parts') of a step."""
    taken = {row["part"]: float(row["cpu_ms"]) for row in rows if row["keras"] == keras}
    total = sum(taken[part] for part in STEP)
    return [(part, colour, taken[part] / total) for part, colour in STEP.items()]


def plot(rows, parts, path):
    """Writes both charts, side by side."""
    chart = plots.new(10, 3.6)
    left, right = chart.subplots(1, 2, width_ratios=[3, 2])
    found = peers(rows)[::-1]
    labels, colours, times = zip(*found, strict=True)
    bars = left.barh(labels, times, color=colours)
    left.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    left.set(xlabel="ms a step", xlim=(0, 1.12 * max(times)))
    left.tick_params(labelsize=8)
    for keras in "2", "3":
        start = 0.0
        for part, colour, share in shares(parts, keras):
            label = part if keras == "2" else None
            right.barh(f"Keras {keras}", share, left=start, color=colour, label=label)
            start += share
    right.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    right.set(xlabel="share of a step's CPU time", ylim=(-0.6, 2.6))
    right.tick_params(labelsize=8)
    right.legend(frameon=False, fontsize=8, loc="upper left")
    plots.save(chart, path)


def main():
    (rows, parts), images = plots.rows_and_images(__doc__, ROWS, PARTS)
    plot(rows, parts, images / IMAGE)


if __name__ == "__main__":
    main()
