"""`train` chooses its optimizer by the size of the tables, and says so."""

import json

import pytest
from grids import some_of

from tfrs_negatives.cli import main
from tfrs_negatives.recommender import optimizer_choice


@pytest.mark.parametrize(
    ("option", "sizes", "expected"),
    [
        ("auto", (60_000, 39_999), "adam"),
        ("auto", (60_000, 40_000), "lazy-adam"),
        ("auto", (1_000_000, 300_000), "lazy-adam"),
        ("adam", (1_000_000, 300_000), "adam"),
        ("lazy-adam", (3, 4), "lazy-adam"),
    ],
)
def test_choice(option, sizes, expected):
    assert optimizer_choice.chosen(option, *sizes) == expected
    told = optimizer_choice.told(option, *sizes)
    assert told.startswith(f"{expected}, ")
    assert ("as asked for" in told) == (option != "auto")
    if option == "auto":
        assert f"{sum(sizes):,} users and items" in told
        assert "adam below 100,000, lazy-adam from there on" in told


def test_help_states_the_rule(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--optimizer {auto,adam,lazy-adam}" in shown
    assert "auto is lazy-adam from 100,000 users and items on" in shown


def test_wrong_names_are_told(capsys):
    assert main(["train", "--optimizer", "sgd"]) == 2
    assert "'sgd'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "large, num_models",
    some_of(
        [(True, 1), (False, 3), (True, 3)], [(True, 1)], reason="trains three models"
    ),
)
def test_train_takes_it_and_says_so(
    keras_2, tmp_path, make_csv, monkeypatch, capsys, large, num_models
):
    from tfrs_negatives.optimizers import LazyAdam
    from tfrs_negatives.recommender import fitting

    # 30 users and 40 items.
    monkeypatch.setattr(optimizer_choice, "LARGE", 70 if large else 71)
    used = []
    optimizer = fitting.optimizer

    def noting(training, settings, num_steps):
        used.append(optimizer(training, settings, num_steps))
        return used[-1]

    monkeypatch.setattr(fitting, "optimizer", noting)
    data = make_csv(tmp_path / "table.csv")
    words = ["--batch-size", "64", "--epochs", "1", "--dim", "4", "--verbose", "0"]
    words += ["--no-index", "--no-all-rows"]
    output = tmp_path / "out"
    words += ["--seeds", "0", "--learning-rate", "0.25", "--output", str(output)]
    if num_models == 1:
        words += ["--baselines"]  # None of them.
    assert main(["train", *data, *words]) == 0
    # Ours, and TFRS with its corrections and without.
    assert [isinstance(one, LazyAdam) for one in used] == [large] * num_models
    for one in used:
        schedule = one.get_config()["learning_rate"]["config"]
        assert schedule["initial_learning_rate"] == 0.25
        assert schedule["decay_steps"] == int(one.iterations.numpy())
    told = json.loads((output / "figures.json").read_text())["optimizer"]
    assert told.startswith("lazy-adam" if large else "adam")
    assert f"optimizer: {told}\n" in capsys.readouterr().out
