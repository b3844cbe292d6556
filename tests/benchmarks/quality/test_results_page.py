"""What the quality benchmark writes and draws."""

import json
import re

import pytest

from benchmarks.common import csv_rows
from benchmarks.quality import report, results, subjects, tables
from benchmarks.requests import recovery_runs


def test_claims_hold_where_all_seeds_say_so():
    def runs(*recalls):
        return [{"recall_at_20": str(recall), "ndcg_at_20": "1"} for recall in recalls]

    def verdict(one, other):
        return report.verdict(one, other, "recall_at_20")

    low, high = runs(0.1, 0.2, 0.3), runs(0.4, 0.5, 0.9)
    assert verdict(high, low) == "+0.4000: holds"
    assert verdict(low, high) == "-0.4000: the reverse holds"
    assert "overlap" in report.verdict(high, low, "ndcg_at_20")
    for case, word in (
        ((runs(0.2, 0.5, 0.9), runs(0.1, 0.2, 0.3)), "overlap"),
        ((high[:2], low), "needs 3 seeds"),
        ((None, low), "not measured"),
    ):
        assert word in verdict(*case)


def test_report_has_a_line_for_each_variant(tmp_path, monkeypatch):
    subject = subjects.Subject("m", {"width": 8}, {"a": [1]})
    table = subjects.Table(data=("data",), trials=1, subjects={"row": subject})
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: table)
    row = dict.fromkeys([*results.MEASURES, *results.COSTS], "0.5")
    row |= {"data": "data", "subject": "row", "setting": '{"a": 1, "width": 8}'}
    results.append(results.search_file("scale"), row)
    for seed, found in enumerate((0.25, 0.75)):
        row |= {"seed": seed, "variant": "exact", "others": "{}"}
        results.append(results.runs_file("scale"), row)
        row |= {"variant": "fast", "others": json.dumps({"found": found})}
        results.append(results.runs_file("scale"), row)
    results.append(results.runs_file("scale"), row | {"setting": '{"a": 2}'})
    text = report.table_text("scale", table)
    half = "0.5000 ± 0.0000 | " * 5
    assert "| tail | seeds | trials | CPU s | peak MiB | found | setting |" in text
    assert f"| row, exact | {half}2 | 1 | 0 | 0 |  | a: 1 |" in text
    assert f"| row, fast | {half}2 | 1 | 0 | 0 | 0.5000 ± 0.3536 | a: 1 |" in text
    assert text.count("\n") == 3


def test_report_of_requests_takes_the_rate_of_the_best_validation(
    tmp_path, monkeypatch
):

    rows = []
    for rate, seed, validation, recall in (
        ("0.1", 0, 0.9, 0.1),
        ("0.1", 1, 0.1, 0.2),
        ("0.3", 0, 0.6, 0.5),
        ("0.3", 1, 0.6, 0.7),
        ("1.0", 0, 0.99, 0.9),  # Not trained by every seed yet.
    ):
        row = {"data": "shop", "order": "sorted", "task": "masked", "rate": rate}
        row |= {"seed": seed, "epochs": 6, "batch": 1280, "recall_at_20": recall}
        row |= {"validation_recall_at_20": validation, "recall_at_100": 0.5}
        row |= {"false_negatives": 0.25, "requests_a_batch": 4, "cpu_seconds": 9}
        rows.append(row | {"peak_mib": "" if seed else 70})
    path = tmp_path / "recovery.csv"
    csv_rows.write(path, list(rows[0]), rows)
    monkeypatch.setattr(recovery_runs, "ROWS", path)
    *_, last, _, unfinished = report.requests_text().splitlines()
    assert unfinished.startswith("Not chosen from yet: 1 of these rates")
    figures = "0.6000 ± 0.1414 | 0.5000 ± 0.0000 | 0.2500 ± 0.0000 | 4.0 ± 0.0"
    assert last == f"| sorted, masked | 1,280 | 6 | {figures} | 2 | 3 | 9 | 70 | 0.3 |"


def test_report_writes_between_markers():
    page = "Mine.\n<!-- scale: begin -->\nold\n<!-- scale: end -->\nMine too.\n"
    written = report.between(page, "scale", "new")
    assert written == report.between(written, "scale", "new")
    assert written.startswith("Mine.\n") and written.endswith("\nMine too.\n")
    assert "new" in written and "old" not in written
    with pytest.raises(ValueError, match="once each"):
        report.between(page, "gowalla", "new")


def test_page_is_what_the_rows_say(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `demo`, to draw")

    written = (report.DOCS / "results.md").read_text(encoding="utf-8")
    page, images = tmp_path / "results.md", tmp_path / "images"
    page.write_text(written, encoding="utf-8")
    report.write(page, images)
    assert page.read_text(encoding="utf-8") == written
    drawn = {path.name for path in images.iterdir()}
    assert drawn == set(re.findall(r"images/(quality_\w+\.png)", written))
    assert all((report.DOCS / "images" / name).exists() for name in drawn)


def test_plots_show_every_row(tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="needs the extra `demo`")
    image_lib = pytest.importorskip("matplotlib.image", reason="needs the extra `demo`")
    from benchmarks.quality import table_plots

    def run(recall):
        setting = {"batch": 64, "replicas": recall * 8, "global_negatives": True}
        others = {"found": recall, "queries per CPU second": 100}
        row = dict.fromkeys(results.MEASURES, str(recall))
        return row | {"setting": json.dumps(setting), "others": json.dumps(others)}

    rows = [("one", [run(0.25)] * 3), ("two", [run(0.5)])]
    for name, paint in table_plots.PAINTERS.items():
        chart = figure.Figure()
        paint(chart, rows)
        marks = 0
        for axes in chart.axes:
            marks += sum(len(bars) for bars in axes.containers)
            marks += sum(len(line.get_xdata()) for line in axes.lines)
        # Two bars and the two ends of a line, twice; two points, four times.
        assert marks == {"gowalla": 8, "ablation": 8}.get(name, 2), name
        assert table_plots.draw(name, rows, tmp_path / "new" / f"{name}.png")
        image = image_lib.imread(tmp_path / "new" / f"{name}.png")
        assert image.std() > 0.05
    assert set(table_plots.PAINTERS) == set(table_plots.TITLES)
    assert not table_plots.draw("requests", rows, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
