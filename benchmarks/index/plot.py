"""Draws `docs/images/index_recall_qps.png` from the table of run.py, and prints it.

python -m benchmarks.index.plot
"""

import pathlib

from benchmarks.common import plots
from benchmarks.common.markdown import markdown

ROWS = pathlib.Path(__file__).with_name("results.csv")

NUM_QUERIES = 2_000  # Of each batch.
TITLES = {
    "gowalla": "Gowalla, 40,981 trained embeddings",
    "million": "1,000,000 points in clusters",
}
COLOURS = {
    "BruteForce": "black",
    "ScaNN": "tab:blue",
    "ScaNN int8": "tab:cyan",
    "faiss IVF-Flat": "tab:orange",
    "faiss HNSW32": "tab:green",
    "hnswlib M16": "tab:red",
}


def table(rows):
    """The cheapest setting of each index that finds 95%, as Markdown."""
    header = ["data", "index", "setting", "recall@10", "queries/s of CPU", "queries/s"]
    header += ["ms alone", "build, s"]
    lines = []
    for data in TITLES:
        for name in COLOURS:
            chosen = [r for r in rows if (r["data"], r["index"]) == (data, name)]
            chosen = [r for r in chosen if float(r["recall_at_10"]) >= 0.95]
            if not chosen:
                continue
            row = min(chosen, key=lambda r: float(r["batch_cpu_ms"]))
            lines.append(
                [
                    *(data, name, row["setting"], row["recall_at_10"]),
                    f"{NUM_QUERIES / float(row['batch_cpu_ms']) * 1e3:,.0f}",
                    f"{float(row['batch_qps']):,.0f}",
                    f"{float(row['single_ms']):.3f}",
                    f"{float(row['build_s']):.1f}",
                ]
            )
    return markdown(header, lines)


def plot(rows, path):
    figure = plots.new(10, 8)
    panels = figure.subplots(2, 2, sharex="col")
    for column, (data, title) in enumerate(TITLES.items()):
        panels[0, column].set_title(title)
        panels[1, column].set_xlabel("recall@10")
        for name, colour in COLOURS.items():
            chosen = [r for r in rows if (r["data"], r["index"]) == (data, name)]
            chosen.sort(key=lambda r: float(r["recall_at_10"]))
            recall = [float(r["recall_at_10"]) for r in chosen]
            batch = [float(r["batch_cpu_ms"]) for r in chosen]
            style = {"color": colour, "marker": "o", "markersize": 4, "label": name}
            queries_per_second = [NUM_QUERIES / (ms / 1e3) for ms in batch]
            panels[0, column].plot(recall, queries_per_second, **style)
            single = [float(r["single_ms"]) for r in chosen]
            panels[1, column].plot(recall, single, **style)
        for panel in panels[:, column]:
            panel.set_yscale("log")
            panel.set_xlim(0.7, 1.005)
            panel.grid(alpha=0.3, which="both")
    panels[0, 0].set_ylabel("queries per second of CPU time, in a batch")
    panels[1, 0].set_ylabel("ms for a query alone (median)")
    panels[0, 0].legend(fontsize=8)
    plots.save(figure, path, dpi=110)


def main():
    (rows,), images = plots.rows_and_images(__doc__, ROWS)
    print(table(rows))
    plot(rows, images / "index_recall_qps.png")


if __name__ == "__main__":
    main()
