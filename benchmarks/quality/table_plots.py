"""Plots of the tables that have one."""

import json
import statistics

from benchmarks.common import plots

# BARS leaderboard: Mao et al., SimpleX and UltraGCN, both CIKM 2021.
BEST_PUBLISHED = {
    "recall_at_20": ("Recall@20", "SimpleX", 0.1872),
    "ndcg_at_20": ("NDCG@20", "UltraGCN", 0.1580),
}
TITLES = {
    "gowalla": "Recall@20 and NDCG@20 on Gowalla",
    "ablation": "Recall@20 on Gowalla, and of its head, torso and tail",
    "scale": "Recall@20 on Gowalla against the batch",
    "serving": "What ScaNN finds against queries per second of CPU time",
}


def draw(name, rows, path):
    """Draws the runs of each row; returns whether this table has a plot.

    Args:
      name: Of the table.
      rows: Pairs (name of the row, its runs).
      path: Of the PNG.
    """
    if name not in TITLES:
        return False
    chart = plots.new(7, 4.5)
    chart.suptitle(TITLES[name])
    PAINTERS[name](chart, rows)
    for axes in chart.axes:
        axes.grid(alpha=0.3)
    plots.save(chart, path)
    return True


def _mean(runs, measure="recall_at_20"):
    return statistics.mean(float(run[measure]) for run in runs)


def _bars(chart, rows):
    rows = sorted(rows, key=lambda row: _mean(row[1]))
    names = [name for name, _ in rows]
    panels = chart.subplots(1, len(BEST_PUBLISHED), sharey=True)
    for axes, (measure, published) in zip(panels, BEST_PUBLISHED.items(), strict=True):
        label, model, best = published
        values = [_mean(runs, measure) for _, runs in rows]
        bars = axes.barh(names, values)
        labels = [f"{value:.4f}" for value in values]
        axes.bar_label(bars, labels, label_type="center", color="w", fontsize=8)
        axes.axvline(best, color="C3", label=f"best published ({model})")
        axes.set_xlabel(label)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))


def _bands(chart, rows):
    axes = chart.add_subplot()
    names = [name for name, _ in rows]
    axes.plot([_mean(runs) for _, runs in rows], names, "kD", label="all items")
    for band in ("head", "torso", "tail"):
        values = [_mean(runs, f"{band}_recall_at_20") for _, runs in rows]
        axes.plot(values, names, "o", label=band)
    axes.invert_yaxis()
    axes.set_xlabel("Recall@20")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)


def _batches(chart, rows):
    axes = chart.add_subplot()
    kinds = {}
    for _, runs in rows:
        setting = json.loads(runs[0]["setting"])
        replicas = setting["replicas"]
        kind = "global" if setting["global_negatives"] else "local"
        label = f"{replicas} replicas, {kind}" if replicas > 1 else "1 replica"
        kinds.setdefault(label, []).append((setting["batch"], _mean(runs)))
    for place, (label, points) in enumerate(kinds.items()):
        # Rings around each other, where kinds are at the same place.
        ring = {"markersize": 4 + 3 * place, "fillstyle": "none"}
        axes.plot(*zip(*sorted(points), strict=True), "o-", **ring, label=label)
    axes.set(xlabel="batch size B", ylabel="Recall@20")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)


def _searches(chart, rows):
    axes = chart.add_subplot()
    for name, runs in rows:
        others = [json.loads(run["others"]) for run in runs]
        point = [
            statistics.mean(each[figure] for each in others)
            for figure in ("queries per CPU second", "found")
        ]
        axes.plot(*point, "o", label=name)
    axes.set(xscale="log", xlabel="queries per second of CPU time")
    axes.set_ylabel("share of the 20 best items found")
    chart.legend(frameon=False, loc="outside right center")


PAINTERS = {
    "gowalla": _bars,
    "ablation": _bands,
    "scale": _batches,
    "serving": _searches,
}
