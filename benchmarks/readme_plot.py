"""Plots the README's two figures: memory of a step, and recall from sorted rows.

python -m benchmarks.readme_plot
"""

from benchmarks.common import plots
from benchmarks.kernel.run import ROWS as KERNEL_ROWS
from benchmarks.requests.plot import values
from benchmarks.requests.recovery_runs import BATCH, EPOCHS, ROWS, chosen

SUBJECTS = {
    "tfrs": ("TFRS, the same corrections", plots.RED, ".-"),
    "ours": ("tfrs_negatives", plots.BLUE, ".-"),
}
DATA = {
    "online_retail": "Online Retail",
    "movielens": "MovieLens 100K",
    "diginetica": "Diginetica",
}
TASKS = {
    "plain": ("TFRS", plots.RED, -0.2),
    "masked": ("tfrs_negatives, masked", plots.BLUE, 0.2),
}


def draw_memory(axes, rows):
    """Peak memory against the batch, of width 64 and few collisions."""
    drawn = {"collisions": "0.1%", "width": "64", "extra": "0"}
    curves = {}
    for row in rows:
        if drawn.items() <= row.items():
            point = int(row["rows"]), float(row["memory_mib"])
            curves.setdefault(row["subject"], []).append(point)
    plots.draw_lines(axes, curves, SUBJECTS)
    axes.set(xscale="log", yscale="log", xlabel="rows in a batch")
    axes.set_title("Memory of the loss, MiB", fontsize=10)
    axes.set_xticks([512, 2048, 8192, 32768], ["512", "2,048", "8,192", "32,768"])
    axes.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def recalls(rows, data, order, task):
    """Recall@20 of each seed, at the rate that validation chose."""
    cell = {"data": data, "order": order, "task": task}
    cell |= {"epochs": str(EPOCHS[data]), "batch": str(BATCH)}
    return values(chosen(rows, **cell), "recall_at_20")


def draw_recall(axes, rows):
    """Recall from sorted rows, over that from shuffled ones with TFRS's task."""
    for place, data in enumerate(DATA):
        shuffled = recalls(rows, data, "shuffled", "plain").mean()
        for task, (name, color, offset) in TASKS.items():
            share = 100 * recalls(rows, data, "sorted", task).mean() / shuffled
            label = name if place == 0 else None
            bar = axes.bar(
                place + offset, share, 0.38, color=color, alpha=0.85, label=label
            )
            axes.bar_label(
                bar, fmt="%.0f%%", label_type="center", color="white", fontsize=9
            )
    axes.axhline(100, color=plots.GREY, linestyle="--", linewidth=1)
    axes.set_xticks(range(len(DATA)), DATA.values())
    axes.set_ylim(0, 135)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("% of what shuffled rows give")
    axes.set_title("Recall@20 when rows are sorted by request", fontsize=10)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")


def plot(kernel_rows, request_rows, path):
    """Writes the chart: memory on the left, recall on the right."""
    chart = plots.new(9, 3.1)
    left, right = chart.subplots(1, 2)
    draw_memory(left, kernel_rows)
    draw_recall(right, request_rows)
    plots.save(chart, path)


def main():
    (kernel_rows, request_rows), images = plots.rows_and_images(
        __doc__, KERNEL_ROWS, ROWS
    )
    plot(kernel_rows, request_rows, images / "readme.png")


if __name__ == "__main__":
    main()
