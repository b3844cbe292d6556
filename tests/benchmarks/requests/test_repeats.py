"""What was measured of repeats, and the rule that the audit has of it."""

import numpy as np
import pytest

from benchmarks.common import csv_rows
from benchmarks.common.provenance import PROJECT
from benchmarks.requests import repeats
from tfrs_negatives.audit import distinct_loss

MEASURED = csv_rows.read(repeats.ROWS)


@pytest.mark.parametrize("queries, items", [(120, 120), (60, 30), (7, 11)])
def test_batches_have_as_many_distinct_ids_as_asked(queries, items):
    users, drawn = repeats.draw(120, queries, items, np.random.default_rng(0))
    assert len(users) == len(drawn) == 120
    assert len(np.unique(users)) == queries and len(np.unique(drawn)) == items
    # A user's rows are one after the other, and as many as another's.
    assert np.count_nonzero(np.diff(users)) == queries - 1
    counts = np.unique(users, return_counts=True)[1]
    assert counts.max() - counts.min() <= 1


def test_fit_finds_the_costs_that_factors_come_from():
    rows = []
    for batch in (1000, 4000):
        for queries, items in ((batch, batch), (batch, 300), (50, 700), (20, 30)):
            distinct = 1.5 * queries * items + 200 * batch
            row = {"batch": batch, "queries": queries, "items": items}
            rows.append({**row, "factor": batch**2 / distinct})
    np.testing.assert_allclose(repeats.fit(rows), [1.5, 200])


def test_the_rule_is_the_fit_of_what_was_measured():
    assert len(MEASURED) == 64
    found = repeats.fit(MEASURED)
    rule = distinct_loss.PAIR_COST, distinct_loss.ROW_COST
    np.testing.assert_allclose(rule, found, rtol=0.01)


def test_the_rule_is_as_near_as_the_page_says():
    off = repeats.errors(MEASURED)
    page = (PROJECT / "docs" / "requests.md").read_text(encoding="utf-8")
    said = f"from {off.min():.2f} to {off.max():.2f} times the measured one"
    assert said in page
    assert f"half of them within {np.median(abs(off - 1)):.0%}" in page


def test_the_page_has_what_was_measured():
    page = (PROJECT / "docs" / "requests.md").read_text(encoding="utf-8")
    for queries in repeats.USER_SHARES:
        cells = [
            f"{float(row['factor']):.1f}" if float(row["factor"]) < 10 else
            f"{float(row['factor']):.0f}"
            for batch in (4096, 8192)
            for items in repeats.ITEM_SHARES
            for row in MEASURED
            if int(row["batch"]) == batch
            and int(row["queries"]) == batch // queries
            and int(row["items"]) == batch // items
        ]  # fmt: skip
        assert len(cells) == 8
        assert f" | {' | '.join(cells)} |" in page, (queries, cells)
