"""Plots what run.py wrote, CPU time against corpus size, and prints it as a table.

python -m benchmarks.corpus_metrics.plot
"""

from benchmarks.common import plots
from benchmarks.common.markdown import markdown
from benchmarks.corpus_metrics.run import ROWS

NAMES = {
    "ours": ("`CorpusRecall`", plots.BLUE, "-"),
    "ours_by_id": ("`CorpusRecall`, by id", plots.BLUE, "--"),
    "ours_all": ("`CorpusRecall`, all four measures", plots.BLUE, ":"),
    "tfrs": ("`FactorizedTopK`", plots.RED, "-"),
    "tfrs_by_id": ("`FactorizedTopK`, by id", plots.RED, "--"),
}


def plot(rows, path):
    chart, curves = plots.new(6, 4), {}
    axes = chart.add_subplot()
    for row in rows:
        point = int(row["candidates"]), float(row["cpu_s"])
        curves.setdefault(row["subject"], []).append(point)
    plots.draw_lines(
        axes,
        curves,
        {s: (n.replace("`", ""), *rest) for s, (n, *rest) in NAMES.items()},
    )
    label = "CPU time of an evaluation, s"
    axes.set(xscale="log", yscale="log", xlabel="candidates (d = 64)", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    plots.save(chart, path)


def table(rows):
    header = ["candidates", "", "wall, s", "CPU, s", "TFRS / this, wall", "CPU"]
    header += ["peak growth, MiB", "largest difference to `FactorizedTopK` by id"]
    lines = [
        [
            f"{int(row['candidates']):,}",
            NAMES[row["subject"]][0],
            f"{float(row['wall_s']):.1f}",
            f"{float(row['cpu_s']):.1f}",
            f"{float(row['tfrs_over_this_wall']):.1f}",
            f"{float(row['tfrs_over_this_cpu']):.1f}",
            f"{float(row['memory_mib']):.0f}",
            f"{float(row['largest_difference']):.4f}".replace("0.0000", "0"),
        ]
        for row in rows
    ]
    return markdown(header, lines)


def main():
    (rows,), images = plots.rows_and_images(__doc__, ROWS)
    plot(rows, images / "corpus_metrics.png")
    print(table(rows))


if __name__ == "__main__":
    main()
