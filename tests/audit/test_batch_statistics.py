"""Statistics of batches against loops over all pairs."""

import numpy as np
import pytest

from tfrs_negatives.audit.batch_statistics import batch_statistics, cut
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.sampled_ratios import sampled_batches


def loops(table, order, size):
    """Totals over all batches, by level of masks."""
    likes = set(zip(table.user.tolist(), table.item.tolist(), strict=True))
    totals = {}
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        for i in rows:
            left = dict.fromkeys(("none", "hits", "keys", "known"), 0)
            for k in rows:
                if i == k:
                    continue
                hit = table.item[i] == table.item[k]
                key = hit or (
                    table.user[i] == table.user[k]
                    or table.request[i] == table.request[k]
                )
                wrong = (table.user[i], table.item[k]) in likes
                dropped = {"none": False, "hits": hit, "keys": key}
                dropped["known"] = key or wrong
                for level, gone in dropped.items():
                    found = totals.setdefault(
                        level, {"pairs": 0, "false": 0, "left": []}
                    )
                    found["pairs"] += not gone
                    found["false"] += wrong and not gone
                    left[level] += not gone
            for level, number in left.items():
                totals[level]["left"].append(number)
    return totals


@pytest.mark.parametrize("shared_requests", [False, True])
def test_all_batches_equal_loops(make_table, shared_requests):
    table = make_table(shared_requests=shared_requests)
    order = np.random.default_rng(1).permutation(len(table))
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    # Five batches, the last of 8 rows.
    found = batch_statistics(cut(order, 28, np.arange(5)), 5, table, known)
    assert found["batches"] == found["batches_measured"] == 5
    parts = [order[start : start + 28] for start in range(0, 120, 28)]
    columns = {
        "users": table.user.tolist(),
        "requests": table.request.tolist(),
        "items": table.item.tolist(),
        "queries": list(zip(table.user, table.request, strict=True)),
    }
    for name, column in columns.items():
        distinct = [len({column[row] for row in rows}) for rows in parts]
        assert found[f"distinct_{name}"] == {
            "value": pytest.approx(np.mean(distinct)),
            "standard_error": 0.0,
        }
    if shared_requests:
        queries = found["distinct_queries"]["value"]
        assert queries > 1.5 * found["distinct_users"]["value"]
        assert queries > 1.5 * found["distinct_requests"]["value"]
    levels = ("none", "accidental_hits", "keys", "known_positives")
    pairs = sum(len(rows) * (len(rows) - 1) for rows in parts)
    totals = loops(table, order, 28)
    for level, expected in zip(levels, totals.values(), strict=True):
        one = found["levels"][level]
        rate = expected["false"] / expected["pairs"]
        assert one["false_negative_rate"]["value"] == pytest.approx(rate)
        assert one["mask_rate"]["value"] == pytest.approx(1 - expected["pairs"] / pairs)
        left = one["columns_left"]
        assert left["value"] == pytest.approx(np.mean(expected["left"]))
        assert left["min"] == min(expected["left"])
        assert left["median"] == np.median(expected["left"])
        assert left["p5"] == pytest.approx(np.percentile(expected["left"], 5))


def test_sampled_batches_are_within_their_standard_errors(make_table):
    table = make_table(num_rows=4000, num_users=80, num_items=120)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    order = np.random.default_rng(1).permutation(len(table))
    measured = {
        "false negatives": lambda found: found["levels"]["none"]["false_negative_rate"],
        "items": lambda found: found["distinct_items"],
        "queries": lambda found: found["distinct_queries"],
    }
    exact = batch_statistics(cut(order, 20, np.arange(200)), 200, table, known)
    deviations = {name: [] for name in measured}
    for seed in range(40):
        chosen = sampled_batches(200, 40, np.random.default_rng(seed))
        found = batch_statistics(cut(order, 20, chosen), 200, table, known)
        assert found["batches_measured"] == 40
        for name, of in measured.items():
            one, truth = of(found), of(exact)["value"]
            deviations[name].append((one["value"] - truth) / one["standard_error"])
    # Of 40 about standard normal numbers: false alarm about 1 in 10,000 each way.
    for name, found in deviations.items():
        assert 0.55 < np.std(found) < 1.55, name
        assert np.abs(found).max() < 5, name
