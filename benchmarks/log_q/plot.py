"""Plots what accuracy.py and simulation.py wrote: errors against steps.

python -m benchmarks.log_q.plot
"""

import numpy as np

from benchmarks.common import plots
from benchmarks.log_q import accuracy, simulation
from benchmarks.log_q.errors import averages

BATCH = 4096
SUBJECTS = {
    # First and wide: sketches without collisions lie on them.
    "exact counts": ("exact counts", plots.GREY, "-"),
    "exact counts, forgetting": ("exact counts, forgetting", plots.GREY, "--"),
    "count": ("count, 1 hash", plots.BLUE, "-"),
    "count, 4 hashes": ("count, 4 hashes", plots.BLUE, "--"),
    "count, dense": ("count, a bucket an id", plots.BLUE, ":"),
    "published": ("published update", plots.RED, "-"),
    "published, per draw": ("published update, read per draw", plots.RED, "--"),
    "published, each repeat": ("published update, each repeat", plots.RED, ":"),
    "count-min": ("count-min sketch", plots.YELLOW, "-"),
    "count-min, forgetting": ("count-min sketch, forgetting", plots.YELLOW, "--"),
}
SIZES = {
    ("1", "5000"): ("1 hash, 5,000 buckets", plots.RED),
    ("2", "2500"): ("2 hashes, 2,500 buckets each", plots.YELLOW),
    ("4", "1250"): ("4 hashes, 1,250 buckets each", plots.BLUE),
    ("1", "1000"): ("a bucket an item", plots.GREY),
}


def plot_accuracy(rows, path):
    """A panel a catalogue size, at one batch size, with the switch."""
    table = averages(row for row in rows if int(row["batch"]) == BATCH)
    sizes = sorted({key[0] for key in table})
    chart = plots.new(12, 4.2)
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
    plots.save(chart, path)


def plot_simulation(rows, path):
    """Learning curves of the paper's simulation, mean over seeds."""
    chart = plots.new(7, 4.2)
    axes = chart.add_subplot()
    for size, (name, color) in SIZES.items():
        curve = {}
        for row in rows:
            if (row["num_hashes"], row["num_buckets"]) == size:
                curve.setdefault(int(row["step"]), []).append(float(row["error"]))
        steps, errors = list(curve), np.array(list(curve.values()))
        mean, deviation = errors.mean(axis=1), errors.std(axis=1)
        plots.draw_band(
            axes,
            steps,
            mean - deviation,
            mean,
            mean + deviation,
            color=color,
            label=name,
        )
    axes.set(xlabel="step (order of items reversed at 10,000)", ylim=(0, None))
    axes.set_ylabel("sum |p_hat - p| / 2B")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    plots.save(chart, path)


def main():
    tables, images = plots.rows_and_images(__doc__, accuracy.ROWS, simulation.ROWS)
    plot_accuracy(tables[0], images / "log_q_accuracy.png")
    plot_simulation(tables[1], images / "log_q_simulation.png")


if __name__ == "__main__":
    main()
