"""The table, the summary and the plot."""

import json

import matplotlib.image
import numpy as np
import pytest

from tfrs_negatives.cli import comparison, row_names

FIGURES = (
    "recall@50",
    "tail recall@50",
    comparison.BEFORE,
    comparison.STEP_TIME,
)


def runs():
    return {
        row_names.PLAIN: [
            dict(zip(FIGURES, v, strict=True))
            for v in ((0.10, 0.01, 0.3, 8.0), (0.14, 0.03, 0.3, 9.0))
        ],
        row_names.OURS: [
            dict(zip(FIGURES, v, strict=True))
            for v in ((0.20, 0.02, 0.3, 11.0), (0.20, 0.04, 0.3, 13.5))
        ],
    }


def test_summary():
    found = comparison.summary(runs())[row_names.PLAIN]["recall@50"]
    assert found["mean"] == pytest.approx(0.12)
    assert found["std"] == pytest.approx(0.02 * 2**0.5)  # n - 1 = 1.
    assert found["by_seed"] == [0.10, 0.14]


def test_one_seed_has_no_deviation():
    one = {model: of_seeds[:1] for model, of_seeds in runs().items()}
    assert comparison.summary(one)[row_names.OURS]["recall@50"]["std"] == 0.0


def test_table():
    lines = comparison.table(comparison.summary(runs()), seeds=[3, 5]).splitlines()
    cells = {line[:27].strip(): line[27:].split("  ") for line in lines}
    cells = {name: [c.strip() for c in row if c.strip()] for name, row in cells.items()}
    assert cells["recall@50"] == ["0.1200 ± 0.0283", "0.2000 ± 0.0000"]
    assert cells["step time, ms"] == ["8.50 ± 0.71", "12.25 ± 1.77"]
    assert cells["recall@50, seed 3"] == ["0.1000", "0.2000"]
    assert cells["tail recall@50, seed 5"] == ["0.0300", "0.0400"]
    assert lines[0].split() == ["TFRS", "ours"]
    ends = {len(line) for line in lines if line}
    assert len(ends) == 1  # Aligned to the right.


def test_ours_alone(tmp_path):
    alone = {row_names.OURS: runs()[row_names.OURS]}
    summary = comparison.summary(alone)
    lines = comparison.table(summary, seeds=[3, 5]).splitlines()
    assert lines[0].split() == ["ours"]
    assert lines[1].split() == ["recall@50", "0.2000", "±", "0.0000"]
    comparison.plot(summary, tmp_path / "plot.png", "a title")
    assert matplotlib.image.imread(tmp_path / "plot.png").ndim == 3


def without_tail():
    """The same runs with a figure that there is none of."""
    return {
        model: [{**run, "tail recall@50": None} for run in of_seeds]
        for model, of_seeds in runs().items()
    }


def test_a_figure_that_there_is_none_of():
    found = comparison.summary(without_tail())
    assert found[row_names.OURS]["tail recall@50"] == {
        "mean": None, "std": None, "by_seed": [None, None],
    }  # fmt: skip
    json.dumps(found, allow_nan=False)
    lines = comparison.table(found, seeds=[3, 5]).splitlines()
    cells = [line.split()[-2:] for line in lines if line.startswith("tail recall@50")]
    assert cells == [["-", "-"]] * 3


@pytest.mark.parametrize("make", [runs, without_tail])
def test_plot(tmp_path, make):
    path = tmp_path / "figures.png"
    comparison.plot(comparison.summary(make()), path, "a title")
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (675, 1500)
    # Both series are there, in their colours.
    for color in ((154, 165, 177), (31, 111, 235)):
        distance = np.abs(picture[..., :3] * 255 - np.array(color)).max(axis=-1)
        assert (distance < 2).sum() > 1000
