"""Plots what run.py wrote, log-log against the batch, and prints it as a table.

    python -m benchmarks.kernel.plot

Of the second CSV, that of the peers, it takes the subjects that the first lacks.
"""

from benchmarks.common import plots
from benchmarks.common.markdown import markdown
from benchmarks.kernel.run import ROWS

NAMES = {
    "ours": ("tfrs_negatives, all corrections", plots.BLUE, "-"),
    "tfrs": ("TFRS, the same corrections", plots.RED, "-"),
    "tfrs_plain": ("TFRS, plain", plots.RED, ":"),
    "keras_rs": ("keras-rs (masks nothing)", plots.YELLOW, ":"),
    "torch_eager": ("PyTorch, eager", plots.VIOLET, "-"),
    "torch_compiled": ("PyTorch, compiled", plots.VIOLET, "--"),
    "floor": ("floor: 3 products, 1 softmax", plots.GREY, "--"),
}
QUANTITIES = {
    "cpu_ms": ("CPU time of a step, ms", "kernel_time.png"),
    "memory_mib": ("peak memory growth, MiB", "kernel_memory.png"),
}


def plot(rows, quantity, path):
    """Writes one chart of the width-64, K = 0 rows of few collisions."""
    label, _ = QUANTITIES[quantity]
    chart, curves = plots.new(7, 4.5), {}
    axes = chart.add_subplot()
    for row in rows:
        point = int(row["rows"]), float(row[quantity])
        curves.setdefault(row["subject"], []).append(point)
    plots.draw_lines(axes, curves, NAMES)
    axes.set(xscale="log", yscale="log", xlabel="batch size B (d = 64)", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    plots.save(chart, path)


def table(rows):
    """Ours against its peers, as Markdown: ratios of wall and of CPU time."""
    header = [
        "collisions",
        "B",
        "K",
        "d",
        "TFRS / ours",
        "ours / floor",
        "ours / ours plain",
        "MiB",
    ]
    by_size = {}
    for row in rows:
        size = row["collisions"], *(int(row[f]) for f in ("rows", "extra", "width"))
        by_size.setdefault(size, {})[row["subject"]] = row
    lines = []
    for size in sorted(by_size, key=lambda s: (s[0], s[3], s[2] > 0, s[1])):
        ours, plain, tfrs, floor = map(
            by_size[size].get, ("ours", "ours_plain", "tfrs", "floor")
        )
        memory = [f"{float(row['memory_mib']):,.0f}" for row in (ours, tfrs) if row]
        lines.append(
            [
                size[0],
                *(f"{number:,}" for number in size[1:]),
                ratio(tfrs, ours),
                ratio(ours, floor),
                ratio(ours, plain),
                " / ".join(memory),
            ]
        )
    return markdown(header, lines)


def ratio(one, other):
    if one is None or other is None:
        return ""
    ratios = (float(one[name]) / float(other[name]) for name in ("wall_ms", "cpu_ms"))
    return ", ".join(f"{value:.2f}" for value in ratios)


def main():
    (rows, further), images = plots.rows_and_images(
        __doc__, ROWS, ROWS.with_name("peers.csv")
    )
    known = {row["subject"] for row in rows}
    rows += [row for row in further if row["subject"] not in known]
    drawn = {"collisions": "0.1%", "width": "64", "extra": "0"}
    drawn = [row for row in rows if drawn.items() <= row.items()]
    for quantity, (_, name) in QUANTITIES.items():
        plot(drawn, quantity, images / name)
    print(table(rows))


if __name__ == "__main__":
    main()
