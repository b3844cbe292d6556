"""Plots of the tables that have one."""

import json
import statistics

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BEST_PUBLISHED = 0.1872  # Mao et al., SimpleX, CIKM 2021; BARS leaderboard.
TITLES = {
    "gowalla": "Recall@20 on Gowalla",
    "ablation": "Recall@20 of head, torso and tail, part by part",
    "scale": "Recall@20 against the batch",
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
    chart = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(chart)
    axes = chart.add_subplot(title=TITLES[name])
    PAINTERS[name](axes, rows)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, dpi=150)
    return True


def _mean(runs, measure="recall_at_20"):
    return statistics.mean(float(run[measure]) for run in runs)


def _bars(axes, rows):
    rows = sorted(rows, key=lambda row: _mean(row[1]))
    axes.barh([name for name, _ in rows], [_mean(runs) for _, runs in rows])
    axes.axvline(BEST_PUBLISHED, color="C3", label="best published (SimpleX)")
    axes.set_xlabel("Recall@20")
    axes.legend(frameon=False, loc="lower right")


def _bands(axes, rows):
    for band in ("head", "torso", "tail"):
        values = [_mean(runs, f"{band}_recall_at_20") for _, runs in rows]
        axes.plot([name for name, _ in rows], values, "o-", label=band)
    axes.tick_params(axis="x", rotation=60)
    axes.legend(frameon=False)


def _batches(axes, rows):
    kinds = {}
    for _, runs in rows:
        setting = json.loads(runs[0]["setting"])
        replicas = setting["replicas"]
        kind = "global" if setting["global_negatives"] else "local"
        label = f"{replicas} replicas, {kind}" if replicas > 1 else "1 replica"
        kinds.setdefault(label, []).append((setting["batch"], _mean(runs)))
    for label, points in kinds.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=label)
    axes.set(xscale="log", xlabel="batch size B", ylabel="Recall@20")
    axes.legend(frameon=False)


def _searches(axes, rows):
    for name, runs in rows:
        others = [json.loads(run["others"]) for run in runs]
        point = [
            statistics.mean(each[figure] for each in others)
            for figure in ("queries per CPU second", "found")
        ]
        axes.plot(*point, "o")
        axes.annotate(name, point, fontsize=7)
    axes.set(xscale="log", xlabel="queries per second of CPU time")
    axes.set_ylabel("share of the 20 best items found")


PAINTERS = {
    "gowalla": _bars,
    "ablation": _bands,
    "scale": _batches,
    "serving": _searches,
}
