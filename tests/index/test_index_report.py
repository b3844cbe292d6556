import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from index_oracles import clustered

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "index_report.py"


@pytest.mark.scann
@pytest.mark.slow(reason="a process that builds many indexes")
@pytest.mark.parametrize("given", [True, False])
def test_the_example_prints_a_table_and_draws_a_plot(tmp_path, given):
    arguments = ["--items", "3000"]
    if given:
        np.savez(
            tmp_path / "towers.npz",
            candidates=clustered(0, 2000),
            queries=clustered(1, 100),
        )
        arguments = ["--embeddings", str(tmp_path / "towers.npz"), "--k", "5"]
    plot = tmp_path / "report.png"
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments, "--plot", str(plot)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith(f"| index | recall@{5 if given else 10} |")
    assert [line.split("|")[1].split("(")[0].strip() for line in lines[2:]] == (
        ["BruteForce"] + ["ScaNN"] * 7
    )
    recalls = [float(line.split("|")[2]) for line in lines[2:]]
    assert recalls[0] == 1.0
    assert all(0.7 < recall <= 1.0 for recall in recalls[1:])
    assert plot.read_bytes().startswith(b"\x89PNG")
