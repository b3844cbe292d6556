"""Draws `docs/images/filtered_search.png` from the table of filtered.py, and prints it.

python -m benchmarks.index.filtered_plot
"""

import pathlib

from benchmarks.common import plots
from benchmarks.common.markdown import markdown

ROWS = pathlib.Path(__file__).with_name("filtered.csv")
# Index and setting: colour, and how the line is drawn.
STYLES = {
    ("LiveIndex, ScaNN", ""): ("tab:blue", "-"),
    ("LiveIndex, exact", ""): ("black", "-"),
    ("faiss Flat", ""): ("gray", "--"),
    ("faiss IVF-Flat", "nprobe=8"): ("tab:red", ":"),
    ("faiss IVF-Flat", "nprobe=32"): ("tab:orange", "--"),
    ("faiss IVF-Flat", "nprobe=128"): ("tab:green", "--"),
}


def of_index(rows, index, setting):
    """Rows of an index, by the share that passes."""
    return {
        float(row["share"]): row
        for row in rows
        if (row["index"], row["setting"]) == (index, setting)
    }


def table(rows):
    """Recall and CPU time by the share that passes, as Markdown."""
    found = {style: of_index(rows, *style) for style in STYLES}
    shares = sorted(found["LiveIndex, ScaNN", ""], reverse=True)
    header = ["passes", *(" ".join(style).strip() for style in STYLES)]
    lines = [
        [
            f"{100 * share:g}%",
            *(
                f"{float(of[share]['recall_at_10']):.3f}, "
                f"{float(of[share]['cpu_ms']):.2f} ms"
                for of in found.values()
            ),
        ]
        for share in shares
    ]
    return markdown(header, lines)


def plot(rows, path):
    figure = plots.new(10, 4)
    panels = figure.subplots(1, 2)
    for axes, figures, name in zip(
        panels,
        ("recall_at_10", "cpu_ms"),
        ("recall@10", "CPU time of a query, ms"),
        strict=True,
    ):
        for (index, setting), (colour, line) in STYLES.items():
            of = sorted(of_index(rows, index, setting).items())
            axes.plot(
                [100 * share for share, _ in of],
                [float(row[figures]) for _, row in of],
                line,
                color=colour,
                label=f"{index} {setting}".strip(),
                marker=".",
            )
        axes.set_xscale("log")
        axes.set_xlabel("% of the items that pass the filter")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    panels[1].set_yscale("log")
    panels[0].legend(fontsize=7)
    plots.save(figure, path)
    print(table(rows))


if __name__ == "__main__":
    plots.plot_rows(__doc__, ROWS, plot, "filtered_search.png")
