"""Draws `docs/images/index_recall_qps.png` from the table of `run.py`.

python benchmarks/index/plot.py
"""

import argparse
import csv
import pathlib

from matplotlib.figure import Figure

HERE = pathlib.Path(__file__).parent
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


def print_table(rows):
    print(
        "| data | index | setting | recall@10 | queries/s of CPU | queries/s |", end=""
    )
    print(" ms alone | build, s |\n|" + 8 * "---|")
    for data in TITLES:
        for name in COLOURS:
            chosen = [r for r in rows if (r["data"], r["index"]) == (data, name)]
            chosen = [r for r in chosen if float(r["recall_at_10"]) >= 0.95]
            if not chosen:
                continue
            row = min(chosen, key=lambda r: float(r["batch_cpu_ms"]))
            print(
                f"| {data} | {name} | {row['setting']} | {row['recall_at_10']} "
                f"| {NUM_QUERIES / float(row['batch_cpu_ms']) * 1e3:,.0f} "
                f"| {float(row['batch_qps']):,.0f} | {float(row['single_ms']):.3f} "
                f"| {float(row['build_s']):.1f} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=pathlib.Path, default=HERE / "results.csv")
    images = HERE.parents[1] / "docs" / "images"
    parser.add_argument(
        "--output", type=pathlib.Path, default=images / "index_recall_qps.png"
    )
    arguments = parser.parse_args()

    with open(arguments.input, newline="") as file:
        rows = list(csv.DictReader(file))
    print_table(rows)
    figure = Figure(figsize=(10, 8), layout="constrained")
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
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
