import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parent / "interrupted_training.py"


def train(folder, result, *kill_after):
    arguments = [str(a) for a in (folder, result, *kill_after)]
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, check=False
    ).returncode


@pytest.mark.slow(reason="trains in three processes of their own")
def test_a_killed_run_goes_on_to_the_same_state(tmp_path):
    """Killed in the middle of two checkpoints; estimator, schedule and all."""
    assert train(tmp_path / "whole", tmp_path / "whole.npz") == 0
    killed = train(tmp_path / "cut", tmp_path / "cut.npz", 6)
    assert killed == -signal.SIGKILL and not (tmp_path / "cut.npz").exists()
    assert train(tmp_path / "cut", tmp_path / "cut.npz") == 0
    whole, cut = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "cut.npz")
    assert whole.files == cut.files
    assert len(whole.files) > 8
    for name in whole.files:
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-6, err_msg=name)
