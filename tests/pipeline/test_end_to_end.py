"""The example from raw events to a served model, on few rows."""

import csv
import importlib
import json
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "end_to_end"
STEPS = [
    "events",
    "split: split",
    "count: user_counts",
    "count: item_counts",
    "order: rows",
    "train",
    "embed: user_vectors",
    "embed: item_vectors",
    "recall: recall",
    "publish",
]


@pytest.fixture
def run(tmp_path):
    """Function of nothing that runs the example and returns what it prints."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    config = json.loads((EXAMPLE / "local.json").read_text())
    config["training"] |= {"batch_size": 512, "epochs": 4, "negatives": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [sys.executable, EXAMPLE / "run.py", "--rows", 20_000, "--port", port]
    command += ["--config", tmp_path / "config.json", "--folder", tmp_path / "output"]

    def run():
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.slow(reason="ten steps, each a process, of which two train")
def test_from_events_to_answers(tmp_path, run):
    pytest.importorskip("apache_beam", reason="Beam is missing: make test-beam")
    pytest.importorskip("scann", reason="no ScaNN: pip install tfrs_negatives[scann]")
    code, told = run()
    assert code == 0, told
    output = tmp_path / "output"
    with open(output / "costs.csv", newline="") as file:
        costs = list(csv.DictReader(file))
    assert [cost["step"] for cost in costs] == STEPS
    assert all(float(cost["cpu_seconds"]) > 0 for cost in costs)
    recall = json.loads((output / "recall" / "recall.json").read_text())
    assert recall["queries"] > 1900
    # 50 of about 1,000 items; by chance .05.
    assert recall["corpus/recall@50"] > 0.2

    # Again: nothing is left to do. A step whose output is gone is done again.
    code, told = run()
    assert code == 0 and told.count("is done") == len(STEPS)
    (output / "model" / "saved_model.pb").unlink()
    for path in sorted(output.glob("model/**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (output / "model").rmdir()
    code, told = run()
    assert code == 0 and "publish ..." in told and told.count("is done") == 9

    from tfrs_negatives import index

    served = index.load_retrieval(str(output / "model"))
    ids = served.signatures["serving_default"](
        user=tf.constant([3], tf.int64), k=tf.constant(10)
    )["ids"].numpy()[0]
    # Most of what a user takes is of the user's kind.
    assert (ids % 50 == 3).mean() >= 0.5


@pytest.mark.parametrize("name", ["local", "cluster"])
def test_the_commands_of_a_configuration_are_valid(monkeypatch, name):
    from tfrs_negatives.cli import arguments
    from tfrs_negatives.pipeline import BeamEngine

    monkeypatch.syspath_prepend(EXAMPLE)
    config = json.loads((EXAMPLE / f"{name}.json").read_text()) | {"rows": 1000}
    steps = list(importlib.import_module("run").steps(config))
    assert [step for step, *_ in steps] == STEPS
    asked = [words for _, words, _ in steps if "tfrs_negatives.cli" in words]
    assert len(asked) == 7
    for words in asked:
        options = arguments.parse([str(word) for word in words[3:]])
        engine = BeamEngine(
            options.runner, options.workers, tuple(options.runner_options)
        )
        assert engine.runner == config["runner"]
        assert list(engine.options) == config["runner_options"]


def test_events_are_the_same_for_a_seed_and_repeat_some(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    events = importlib.import_module("events").events
    first, again, other = (events(seed, 5000, 300, 1000) for seed in (1, 1, 2))
    for name in ("customer", "sku", "at"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()
    rows = set(zip(*first.values(), strict=True))
    assert len(first["sku"]) == 5050 and len(rows) <= 5000
    assert first["customer"].max() < 300 and first["sku"].max() < 1000
    same_kind = first["customer"] % 50 == first["sku"] % 50
    assert 0.75 < same_kind.mean() < 0.9
