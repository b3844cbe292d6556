"""A small table, and one trained output that several tests look at."""

import contextlib
import fcntl
import io
import os

import numpy as np
import pytest

# Settings under which training takes seconds.
FAST = [
    "--batch-size", "64", "--epochs", "3", "--dim", "8", "--num-negatives", "16",
    "--verbose", "0",
]  # fmt: skip


@pytest.fixture(scope="session")
def make_csv():
    """Writes a table of two tastes: even users take even items, odd ones odd."""

    def write(path, strings=False, num_rows=900):
        rng = np.random.default_rng(0)
        user = rng.integers(0, 30, num_rows)
        item = 2 * rng.integers(0, 20, num_rows) + user % 2
        time = 1_500_000_000 + 3_600 * np.arange(num_rows)
        lines = ["who,what,basket,seconds,name"]
        for row in range(num_rows):
            u, i = user[row], item[row]
            who, what = (f"u{u}", f"i{i}") if strings else (u, i + 500)
            lines.append(f"{who},{what},{row // 3}-{u},{time[row]},Thing {i}")
        path.write_text("\n".join(lines) + "\n")
        return [
            "--data", str(path), "--user", "who", "--item", "what",
            "--request", "basket", "--time", "seconds", "--title", "name",
        ]  # fmt: skip

    return write


@pytest.fixture(scope="session")
def trained(keras_2, tmp_path_factory, make_csv):
    """Folder of a training with two seeds on string ids, and what it printed.

    Not to be changed: processes of one run share it. What was written to the standard
    error of the one that trained is in `stderr.txt` beside it.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # Each worker has a folder in it.
    folder = shared / "trained"
    with open(shared / "trained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Until it is closed.
        if not (folder / "stdout.txt").exists():
            folder.mkdir(exist_ok=True)  # One that failed may have left it.
            # Written last: it says that all the rest is there.
            (folder / "stdout.txt").write_text(_train(folder, make_csv))
    return folder / "out", (folder / "stdout.txt").read_text()


def _train(folder, make_csv):
    """What the training prints."""
    from tfrs_negatives.cli import main

    data = make_csv(folder / "table.csv", strings=True)
    printed = io.StringIO()
    terminal = os.dup(2)
    with open(folder / "stderr.txt", "wb") as errors:
        os.dup2(errors.fileno(), 2)
        try:
            with contextlib.redirect_stdout(printed):
                code = main(
                    ["train", *data, *FAST, "--seeds", "4", "7"]
                    + ["--output", f"{folder}/out"]
                )
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
    assert code == 0
    return printed.getvalue()
