"""Writes the tables and plots of `docs/results.md` from the CSV files of runs.

    python -m benchmarks.quality.report

A table stands between `<!-- TABLE: begin -->` and `<!-- TABLE: end -->`; what is around
is left as it is. Rows are runs with the setting that a complete search found best.
"""

import json
import statistics

from benchmarks.common import command_line
from benchmarks.common.markdown import markdown, mean_and_deviation
from benchmarks.common.provenance import PROJECT
from benchmarks.quality import results, table_plots, tables
from benchmarks.requests import recovery_runs

DOCS = PROJECT / "docs"
SEEDS = 3  # By chance all of one are above all of the other once in 20.
CLAIMED = {"recall_at_20": "by Recall@20", "ndcg_at_20": "by NDCG@20"}
HEADER = [
    "",
    *("Recall@20", "NDCG@20", "head", "torso", "tail"),
    *("seeds", "trials", "CPU s", "peak MiB", "setting"),
]


def spread(values):
    """Mean and standard deviation, as text."""
    values = [float(value) for value in values]
    mean = statistics.mean(values)
    return mean_and_deviation(values, 4 if mean <= 1 else 1 if mean < 1000 else 0)


def groups(name, table, data):
    """Runs of each row of a table: pairs (subject and variant, runs)."""
    everything = results.read(results.runs_file(name))
    for subject_name in table.subjects:
        setting = tables.setting_of(name, data, subject_name)
        runs = [
            row
            for row in everything
            if (row["data"], row["subject"], row["setting"])
            == (data, subject_name, setting)
        ]
        for variant in dict.fromkeys(row["variant"] for row in runs):
            named = f"{subject_name}, {variant}" if variant else subject_name
            yield named, [row for row in runs if row["variant"] == variant]


def table_text(name, table):
    """The tables of each data set, and verdicts on claims."""
    parts = []
    for data in table.data:
        found = dict(groups(name, table, data))
        if not found:
            continue
        if len(table.data) > 1:
            parts.append(f"`{data}`:")
        further = list(
            dict.fromkeys(key for runs in found.values() for key in others(runs))
        )
        lines = [line(name, table, data, *item, further) for item in found.items()]
        parts.append(markdown([*HEADER[:-1], *further, HEADER[-1]], lines))
        ran = {runs[0]["subject"] for runs in found.values()}
        missing = [subject for subject in table.subjects if subject not in ran]
        if missing:
            parts.append(f"Not run yet: {'; '.join(missing)}.")
        if table.claims:
            verdicts = [
                [claim, *(verdict(*map(found.get, rows), each) for each in CLAIMED)]
                for claim, *rows in table.claims
            ]
            header = ["claim", *CLAIMED.values()]
            parts.append(markdown(header, verdicts))
    return "\n\n".join(parts) or "No runs yet."


def others(runs):
    """Further figures of runs: from their names to lists."""
    figures = [json.loads(run["others"] or "{}") for run in runs]
    return {name: [each[name] for each in figures] for name in figures[0]}


def line(name, table, data, row_name, runs, further):
    """Cells of one row."""
    subject = table.subjects[runs[0]["subject"]]
    searched = {
        key: value
        for key, value in json.loads(runs[0]["setting"]).items()
        if key in subject.grid
    }
    figures = others(runs)
    return [
        row_name,
        *(spread(run[measure] for run in runs) for measure in results.MEASURES),
        str(len(runs)),
        tables.budget(name, data, runs[0]["subject"]),
        *median_costs(runs),
        *(spread(figures[key]) if key in figures else "" for key in further),
        ", ".join(f"{key}: {value}" for key, value in searched.items()),
    ]


def median_costs(runs):
    """CPU seconds and peak MiB, as texts; of the runs that say."""
    found = ([run[cost] for run in runs if run[cost]] for cost in results.COSTS[1:])
    return [f"{statistics.median(map(float, f)):.0f}" if f else "" for f in found]


def verdict(better, worse, measure):
    """Difference of means, and if each seed of one is above all of the other."""
    if not better or not worse:
        return "not measured"
    one, other = ([float(run[measure]) for run in runs] for runs in (better, worse))
    difference = f"{statistics.mean(one) - statistics.mean(other):+.4f}"
    if min(len(one), len(other)) < SEEDS:
        return f"{difference}: needs {SEEDS} seeds of both"
    if min(one) > max(other):
        return f"{difference}: holds"
    if max(one) < min(other):
        return f"{difference}: the reverse holds"
    return f"{difference}: not decided, seeds overlap"


def requests_text():
    """The table that `benchmarks.requests.recovery` made."""
    everything = results.read(recovery_runs.ROWS)
    measures = "recall_at_20", "recall_at_100", "false_negatives", "requests_a_batch"
    header = ["", "batch", "epochs", "Recall@20", "Recall@100", "false negatives"]
    header += ["requests a batch", "seeds", "trials", "CPU s", "peak MiB", "rate"]
    parts = []
    for data in dict.fromkeys(run["data"] for run in everything):
        cells = {}
        for run in everything:
            if run["data"] == data:
                size = int(run["batch"]), int(run["epochs"])
                cells.setdefault((*size, run["order"], run["task"]), []).append(run)
        lines, unfinished = [], 0
        # Plain ones first, what is compared with them second.
        for cell in sorted(cells, key=lambda cell: (*cell[:3], cell[3] != "plain")):
            (batch, epochs, order, task), every = cell, cells[cell]
            runs, rates = recovery_runs.chosen(every), recovery_runs.by_rate(every)
            unfinished += sum(len(r) < len(runs) for r in rates.values())
            values = [spread(run[measure] for run in runs) for measure in measures]
            counts = [str(len(runs)), str(len(rates))]
            sizes = [f"{batch:,}", str(epochs)]
            name = f"{order}, {task}"
            costs = median_costs(runs)
            lines.append([name, *sizes, *values, *counts, *costs, runs[0]["rate"]])
        parts.append(f"`{data}`:\n\n{markdown(header, lines)}")
        if unfinished:
            parts.append(
                f"Not chosen from yet: {unfinished} of these rates, which not every "
                "seed has trained at."
            )
    return "\n\n".join(parts) or "No runs yet."


def between(page, name, text):
    """The page with the text between the markers of a table."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"The page must have {begin} and {end} once each.")
    before, rest = page.split(begin)
    if end not in rest:
        raise ValueError(f"{end} must stand after {begin}.")
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"


def write(page=DOCS / "results.md", images=DOCS / "images"):
    """Writes every table into the page, and draws their plots."""
    text = page.read_text(encoding="utf-8")
    for name in tables.NAMES:
        table = tables.load(name)
        found = requests_text() if table.scripts else table_text(name, table)
        image = images / f"quality_{name}.png"
        drawn = [] if table.scripts else list(groups(name, table, table.data[0]))
        if drawn and table_plots.draw(name, drawn, image):
            link = image.relative_to(page.parent)
            found += f"\n\n![{table_plots.TITLES[name]}]({link})"
        text = between(text, name, found)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    command_line.parser(__doc__, quick=False).parse_args()
    write()
