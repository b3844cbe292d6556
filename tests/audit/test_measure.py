"""The whole report, what mixtures follow from it, and what it recommends."""

import json

import numpy as np
import pytest
from mixture_oracle import gradient_by_row

from tfrs_negatives import audit
from tfrs_negatives.audit.audit_summary import facts
from tfrs_negatives.audit.recommended_settings import (
    THRESHOLDS,
    percent,
    recommendations,
)


@pytest.fixture(scope="module")
def report(make_table, make_model):
    table = make_table(num_rows=400, num_items=60, num_users=20)
    return audit.measure(
        table,
        make_model(table),
        batch_sizes=[64, 32, 5000],
        spread_buffer=4,
        num_probes=40,
        temperature=0.5,
        progress=False,
    )


def test_report_is_json_and_has_every_setting(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["schema_version"] == 1
    settings = [(s["order"], s["batch_size"]) for s in report["settings"]]
    orders = ("shuffled", "request_sorted", "spread")
    assert settings == [(order, size) for order in orders for size in (32, 64)]
    assert report["options"]["batch_sizes_left_out"] == [5000]
    table = report["table"]
    dropped = table["rows_dropped_by_label"]
    assert table["rows_read"] == table["rows_used"] + dropped == 400
    assert report["settings"][-1]["spread"]["buffer_size"] == 256
    assert report["settings"][0]["spread"] is None


def test_order_matters_as_it_should(report):
    by = {(s["order"], s["batch_size"]): s for s in report["settings"]}
    users = {key: s["distinct_users"]["value"] for key, s in by.items()}
    assert 1.5 * users["request_sorted", 32] < users["spread", 32]
    assert 1.5 * users["request_sorted", 32] < users["shuffled", 32]
    rate = {
        order: by[order, 32]["levels"]["none"]["false_negative_rate"]["value"]
        for order in ("shuffled", "request_sorted")
    }
    assert rate["request_sorted"] > 1.1 * rate["shuffled"]


def test_uniform_rate_equals_a_loop(make_table, report):
    table = make_table(num_rows=400, num_items=60, num_users=20)
    rates = []
    for user, item in zip(table.user, table.item, strict=True):
        own = set(table.item[table.user == user].tolist()) - {int(item)}
        rates.append(len(own) / (table.num_items - 1))
    found = report["table"]["uniform_false_negative_rate"]
    assert found["all"] == pytest.approx(np.mean(rates))


@pytest.mark.parametrize("level", ["none", "keys", "known_positives"])
@pytest.mark.parametrize("shares", [(1, 0, 0), (3, 4, 1), (0, 0, 2)])
def test_mixtures_equal_loops(report, shares, level):
    skip, last = report["model"]["hard"]["edges"][1:4:2]
    found = audit.mixture(report, "spread", 64, level, shares, skip, last)
    expected = gradient_by_row(report, "spread", 64, level, shares, skip, last)
    assert found["negatives_probability"] == pytest.approx(expected.sum())
    np.testing.assert_allclose(
        list(found["gradient"].values()), expected / expected.sum(), atol=1e-12
    )
    setting = report["settings"][-1]
    left = setting["levels"][level]["columns_left"]["value"]
    counts = np.array([left, 63, 63]) * shares / np.sum(shares)
    np.testing.assert_allclose(list(found["negatives"].values()), counts)
    rates = found["false_negative_rate"]
    mean = sum(n * rates[s] for n, s in zip(counts, found["negatives"], strict=True))
    assert rates["all"] == pytest.approx(mean / counts.sum())
    if level == "none":
        measured = setting["levels"]["none"]["false_negative_rate"]["value"]
        assert rates["in_batch"] == measured


@pytest.mark.parametrize("shares", [(1, 1, 0), (3, 4, 1)])
def test_mixtures_of_scores_over_a_low_temperature(make_table, make_model, shares):
    """Weights that no float holds, as exp(1,000) is."""
    table = make_table(num_rows=400, num_items=60, num_users=20)
    report = audit.measure(
        table, make_model(table), batch_sizes=[64], orders=["shuffled"],
        num_probes=40, temperature=0.001, progress=False,
    )  # fmt: skip
    logs = report["model"]["uniform"]["all"]["log_mean_weight"]
    assert max(logs) > 1_000 and min(logs) < -50
    found = audit.mixture(report, "shuffled", 64, "keys", shares)
    last = report["model"]["hard"]["edges"][-1]
    expected = gradient_by_row(report, "shuffled", 64, "keys", shares, 0, last)
    np.testing.assert_allclose(
        list(found["gradient"].values()), expected / expected.sum(), atol=1e-12
    )
    assert found["negatives_probability"] == pytest.approx(expected.sum())


def test_weights_predict_the_gradient_of_drawn_negatives(make_table, make_model):
    """What sources' mean weights give is near a softmax over columns drawn of them."""
    table = make_table(num_rows=3000, num_items=400, num_users=60)
    model = make_model(table)
    size, shares = 512, (1, 1, 1)
    report = audit.measure(
        table, model, batch_sizes=[size], orders=["shuffled"], num_probes=60,
        temperature=2.0, progress=False,
    )  # fmt: skip
    found = audit.mixture(report, "shuffled", size, "none", shares, 0, 50)
    rng = np.random.default_rng(7)
    masses = np.zeros(3)
    for row in rng.integers(0, 3000, 400):
        scores = model.matrix[table.user[row]].astype(np.float64) / 2.0
        own = table.item[row]
        others = np.delete(np.arange(table.num_items), own)
        best = others[np.argsort(-scores[others])][:50]
        drawn = [
            table.item[rng.choice(np.delete(np.arange(3000), row), 170, replace=False)],
            rng.choice(others, 170),
            rng.choice(best, 170),
        ]
        sums = np.array([np.exp(scores[items] - scores[own]).sum() for items in drawn])
        masses += sums / (1 + sums.sum())
    np.testing.assert_allclose(
        list(found["gradient"].values()), masses / masses.sum(), atol=0.015
    )
    assert found["negatives_probability"] == pytest.approx(masses.sum() / 400, abs=0.01)


def test_without_a_model_hard_negatives_are_unknown(make_table):
    found = audit.measure(
        make_table(), batch_sizes=[16], orders=["shuffled"], progress=False
    )
    assert "model" not in found
    mixed = audit.mixture(found, "shuffled", 16, "keys", (1, 1, 1))
    assert mixed["gradient"] is None and mixed["false_negative_rate"]["all"] is None
    mixed = audit.mixture(found, "shuffled", 16, "keys", (1, 1, 0))
    assert 0 < mixed["false_negative_rate"]["all"] < 1


def test_recommendations_name_what_was_measured(report):
    found = recommendations(report)
    assert found == report["recommendations"]
    named = {one["threshold"] for one in found}
    assert {"false_negative_rate", "accidental_hit_rate"} <= named
    for one in found:
        assert one["compared_with"] == THRESHOLDS[one["threshold"]]
        assert one["setting"] and one["reason"].endswith(".")
    first = next(o for o in found if o["threshold"] == "accidental_hit_rate")
    here = next(
        s for s in report["settings"]
        if (s["order"], s["batch_size"]) == ("request_sorted", 64)
    )  # fmt: skip
    assert first["measured"] == here["levels"]["accidental_hits"]["mask_rate"]["value"]


def test_good_numbers_ask_for_nothing(report):
    """Rules are silent on the good side of their thresholds."""
    good = json.loads(json.dumps(report))
    del good["model"]
    good["table"]["popularity"].update(
        gini=0.1, top_1_percent_share=0.01, tail_row_share=0.7, tail_item_share=0.8
    )
    good["table"].update(items=40_001, users=10, distinct_pairs=1_000)
    for setting in good["settings"]:
        setting["distinct_users"]["value"] = 0.9 * setting["batch_size"]
        setting["tail_items_seen"] = 1.0
        for level in setting["levels"].values():
            level["false_negative_rate"]["value"] = 0.001
            level["mask_rate"]["value"] = 0.001
            level["columns_left"]["p5"] = setting["batch_size"] - 2
    assert recommendations(good) == []
    good["recommendations"] = []
    assert "None: every number" in audit.summary(good)
    bad = json.loads(json.dumps(good))
    for setting in bad["settings"]:
        if setting["order"] == "request_sorted":
            setting["levels"]["none"]["false_negative_rate"]["value"] = 0.02
            setting["tail_items_seen"] = 0.9
    named = [one["threshold"] for one in recommendations(bad)]
    assert named == ["false_negative_rate", "sorted_over_shuffled", "tail_items_seen"]


def test_the_catalogue_and_teachers_are_for_small_and_sparse_tables(report):
    """At the threshold they are asked for, beyond it not."""
    case = json.loads(json.dumps(report))
    for items, pairs, expected in (
        (40_000, 801, {"catalogue_items"}),
        (40_001, 800, {"share_of_items_had"}),
        (1_000, 20, {"catalogue_items", "share_of_items_had"}),
        (40_001, 2_000, set()),
    ):
        case["table"].update(items=items, users=10, distinct_pairs=pairs)
        found = {one["threshold"]: one for one in recommendations(case)}
        assert expected == set(found) & {"catalogue_items", "share_of_items_had"}
        if "catalogue_items" in found:
            assert found["catalogue_items"]["measured"] == items
            assert f"All {items:,} items" in found["catalogue_items"]["reason"]
        if "share_of_items_had" in found:
            share = pairs / (10 * items)
            assert found["share_of_items_had"]["measured"] == share
            assert f"had {percent(share)} of" in found["share_of_items_had"]["reason"]


@pytest.mark.parametrize(
    ("gini", "top", "decides"),
    [(0.6, 0.0, "gini"), (0.1, 0.1, "top_1_percent_share"), (0.5, 0.09, None)],
)
def test_skew_asks_for_log_q_and_the_loss_that_goes_with_it(report, gini, top, decides):
    case = json.loads(json.dumps(report))
    case["table"]["popularity"].update(gini=gini, top_1_percent_share=top)
    found = [
        one["setting"] for one in recommendations(case) if one["threshold"] == decides
    ]
    assert found == (
        [
            "Retrieval(sampling_correction=layers.StreamingFrequency())",
            'Retrieval(positive="outside", negative_weight=1.22)',
        ]
        if decides
        else []
    )


def of_one_batch(make_table, num_items, num_users):
    """A report on a table that is one batch, in the order of requests; the table."""
    table = make_table(num_rows=2048, num_items=num_items, num_users=num_users)
    options = {"batch_sizes": [2048], "orders": ["request_sorted"], "progress": False}
    return audit.measure(table, **options), table


def test_repeats_ask_for_the_loss_of_distinct_embeddings(make_table):
    report, table = of_one_batch(make_table, num_items=300, num_users=30)
    # Four requests a user, and some of the rare items never.
    queries = len(set(zip(table.user.tolist(), table.request.tolist(), strict=True)))
    items = len(set(table.item.tolist()))
    assert queries > 100 and items > 250
    found = {one["threshold"]: one for one in report["recommendations"]}
    one = found["distinct_loss_factor"]
    assert "query_rows=, candidate_rows=" in one["setting"]
    assert f"batch of 2,048 has {queries} distinct pairs of user and" in one["reason"]
    assert f" {items} distinct items" in one["reason"]
    assert f" {percent(queries * items / 2048**2)} of its pairs" in one["reason"]
    factor, alone = (predicted(2048, q, items) for q in (queries, 2048))
    assert factor > 1.2 * alone > 1.2
    assert one["measured"] == pytest.approx(factor)
    assert f"{factor:.1f} times as fast" in one["reason"]
    assert f"({alone:.1f} times with candidate_rows= alone)" in one["reason"]
    text = audit.summary(report)
    assert one["setting"] in text
    assert f" {items} distinct items" in " ".join(text.split())


def predicted(rows, queries, items):
    """`distinct_loss`'s rule, with its constants as docs/requests.md gives them."""
    return rows**2 / (1.45 * queries * items + 430 * rows)


def test_few_repeats_do_not_ask_for_it(make_table):
    report, table = of_one_batch(make_table, num_items=2000, num_users=600)
    queries = report["settings"][0]["distinct_queries"]["value"]
    items = report["settings"][0]["distinct_items"]["value"]
    assert queries == len(set(table.request.tolist())) > 1000
    assert items == len(set(table.item.tolist())) > 900
    assert predicted(2048, queries, items) < 1.5
    named = [one["threshold"] for one in report["recommendations"]]
    assert "distinct_loss_factor" not in named
    # As many rows, of fewer items: their number alone changes its mind.
    fewer = json.loads(json.dumps(report))
    fewer["settings"][0]["distinct_items"]["value"] = 100
    named = [one["threshold"] for one in recommendations(fewer)]
    assert "distinct_loss_factor" in named


def test_summary_has_a_line_for_each_setting(report):
    lines = audit.summary(report).splitlines()
    assert len({len(line) for line in lines[:7]}) == 1
    for line, setting in zip(lines[1:7], report["settings"], strict=True):
        assert line.split()[:2] == [
            setting["order"].replace("_", "-"),
            str(setting["batch_size"]),
        ]
        rate = setting["levels"]["none"]["false_negative_rate"]["value"]
        assert f"{100 * rate:.2f}" in line
        names = ("distinct_users", "distinct_requests", "distinct_items")
        assert line.split()[2:5] == [f"{setting[n]['value']:.0f}" for n in names]
    assert "400 read, 400 used, 0 dropped" in facts(report)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_sizes": [500]}, "at most 120 rows"),
        ({"batch_sizes": [1]}, "at least 2"),
        ({"batch_sizes": []}, "not be empty"),
        ({"orders": ["sorted"]}, "must be one of"),
        ({"orders": ["spread", "spread"]}, "distinct"),
        ({"temperature": 0.0}, "above 0"),
        ({"max_batches": 1}, "at least 2"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_bad_options(make_table, options, message):
    with pytest.raises(ValueError, match=message):
        audit.measure(make_table(), progress=False, **{"batch_sizes": [16], **options})


def test_percent():
    shares = [None, 0, 0.00001, 0.0042, 0.0777, 0.5, 1]
    assert [percent(share) for share in shares] == [
        "none", "0%", "less than 0.01%", "0.42%", "7.8%", "50%", "100%",
    ]  # fmt: skip


def test_few_columns_left_ask_for_what_helps(report):
    """Spread is named only where it leaves more than the threshold."""
    named = []
    for share in (0.45, 0.8):
        case = json.loads(json.dumps(report))
        for setting in case["settings"]:
            left = setting["levels"]["known_positives"]["columns_left"]
            sorted_ = setting["order"] == "request_sorted"
            left["p5"] = (0.4 if sorted_ else share) * (setting["batch_size"] - 1)
        found = {one["threshold"]: one for one in recommendations(case)}
        named.append(found["columns_left_share"]["setting"])
    assert named == [
        "samplers.Uniform(items), or a larger batch",
        "data.spread_requests",
    ]
