"""Prints the tables of `docs/recommender.md`.

    python -m benchmarks.recommender.page

They are made from the rows of `results.csv`.
"""

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import markdown, mean_and_deviation
from benchmarks.recommender.run import ALS, DISCOUNTED, ROWS
from tfrs_negatives.cli import row_names

ORDER = [*row_names.BASELINES, ALS, *row_names.MODELS, DISCOUNTED]
COLUMNS = {
    "recall@50": "recall_50",
    "NDCG@10": "ndcg_10",
    "MRR@100": "mrr_100",
    "tail recall@50": "tail_recall_50",
    "coverage@10": "coverage_10",
}


def main():
    command_line.parse(command_line.parser(__doc__, quick=False))
    rows = csv_rows.read(ROWS)
    for name in dict.fromkeys(row["set"] for row in rows):
        print(f"\n{name}\n\n{table([row for row in rows if row['set'] == name])}")


def table(rows):
    """Means and deviations over the seeds of one set, a row for each model."""
    models = [m for m in dict.fromkeys(ORDER) if any(r["model"] == m for r in rows)]
    body = []
    for model in models:
        of = [row for row in rows if row["model"] == model]
        cells = [_cell([row[field] for row in of]) for field in COLUMNS.values()]
        body.append([model, *cells])
    return markdown(["", *COLUMNS], body)


def _cell(values):
    values = [value for value in values if value]
    if not values:
        return ""
    # What does not depend on the seed has no deviation.
    if len(set(values)) == 1:
        values = values[:1]
    return mean_and_deviation(values, 3)


if __name__ == "__main__":
    main()
