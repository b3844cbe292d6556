"""Recall, latency and memory of index settings on your own embeddings, as a plot.

    python examples/index_report.py --embeddings towers.npz --plot report.png

The file holds `candidates` `[N, d]` and `queries` `[Q, d]`, as two trained towers made
them; without one, points in clusters stand in for them. It needs the extras `demo`
and `scann`, and works under Keras 2 (`TF_USE_LEGACY_KERAS=1`) and Keras 3.
"""

import argparse

import numpy as np

from tfrs_negatives.index import quality_report

SETTINGS = [
    {},
    *({"recall_target": target} for target in (0.8, 0.9, 0.95, 0.99)),
    {"storage": "int8"},
    {"storage": "int8", "recall_target": 0.9},
]


def clusters(num_items, num_queries, width=64):
    """Points around 100 centres, as far from them as these are from each other."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, width))

    def draw(count):
        points = centres[rng.integers(0, len(centres), count)]
        return (points + rng.normal(size=points.shape)).astype(np.float32)

    return draw(num_items), draw(num_queries)


def label(row):
    given = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
    return f"{row['index']}({given})"


def print_table(rows, k):
    print(f"| index | recall@{k} | ms a query | p99 | queries/s | MiB | build, s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {label(row)} | {row['recall']:.4f} | {row['single_ms']:.2f} "
            f"| {row['single_p99_ms']:.2f} | {row['queries_per_second']:,.0f} "
            f"| {row['mebibytes']:.1f} | {row['build_seconds']:.1f} |"
        )


def plot(rows, k, path):
    """Queries per second against recall; the area of a dot is the memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    largest = max(row["mebibytes"] for row in rows)
    for row in rows:
        at = row["recall"], row["queries_per_second"]
        axes.scatter(*at, s=150 * row["mebibytes"] / largest)
        axes.annotate(
            label(row), at, fontsize=7, xytext=(-6, 6), textcoords="offset points",
            ha="right",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.margins(x=0.1, y=0.15)
    left, _ = axes.get_xlim()
    axes.set_xlim(left - 0.5 * (1 - left), 1.01)
    axes.set_xlabel(f"recall@{k}")
    axes.set_ylabel("queries per second, in batches")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", help="npz file; default: made-up points")
    parser.add_argument("--items", type=int, default=50_000, help="made-up ones")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--plot", help="image file to write")
    arguments = parser.parse_args()

    if arguments.embeddings:
        towers = np.load(arguments.embeddings)
        candidates, queries = towers["candidates"], towers["queries"]
    else:
        candidates, queries = clusters(arguments.items, 2_000)
    rows = quality_report(candidates, queries, SETTINGS, arguments.k)
    print_table(rows, arguments.k)
    if arguments.plot:
        plot(rows, arguments.k, arguments.plot)


if __name__ == "__main__":
    main()
