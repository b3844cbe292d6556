"""Workers in processes of their own."""

import pytest

from benchmarks.common.worker_process import (
    SteppingWorker,
    WorkerFailed,
    WorkerProcess,
)

COUNTING = """
import sys
from benchmarks.common import worker

count = 0

def step():
    global count
    count += int(sys.argv[1])
    print("What libraries print.")
    held = bytearray(count * 2**20)
    for place in range(0, len(held), 4096):
        held[place] = 1
    return count

worker.keep_output_clean()
worker.answer(step)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    return tmp_path


def test_steps_are_counted_and_their_costs_kept(folder):
    worker = SteppingWorker("counting", 20, folder=folder)
    try:
        assert worker.read() == {"ready": True}
        first = worker.step(1)
        worker.forget_times()
        worker.step(2)
    finally:
        worker.close()
    assert first["value"] == [20] and worker.values == [20, 40, 60]
    assert len(worker.times["wall"]) == len(worker.times["cpu"]) == 2
    assert worker.median("wall") > 0
    assert 50 < worker.growth_mib < 120


def test_a_worker_imports_what_lies_in_its_folder_first(tmp_path):
    (tmp_path / "tfrs_negatives.py").write_text("PLACE = 'here'")
    (tmp_path / "says.py").write_text(
        "import benchmarks, tfrs_negatives\n"
        "from benchmarks.common import worker\n"
        "worker.say(place=tfrs_negatives.PLACE, benchmarks=benchmarks.__file__)\n"
    )
    worker = WorkerProcess("says", folder=tmp_path)
    try:
        found = worker.read()
    finally:
        worker.close()
    assert found["place"] == "here"
    assert not found["benchmarks"].startswith(str(tmp_path))


def test_environment_is_set_and_unset(tmp_path, monkeypatch):
    monkeypatch.setenv("GONE", "still there")
    (tmp_path / "says.py").write_text(
        "import os\nfrom benchmarks.common import worker\n"
        "worker.say(**{k: os.environ.get(k) for k in ('GONE', 'NEW')})\n"
    )
    worker = WorkerProcess(
        "says", folder=tmp_path, environment={"GONE": None, "NEW": "1"}
    )
    try:
        assert worker.read() == {"GONE": None, "NEW": "1"}
    finally:
        worker.close()


def test_a_worker_that_ended_says_why(tmp_path):
    (tmp_path / "fails.py").write_text("raise ValueError('out of luck')")
    worker = WorkerProcess("fails", "word", folder=tmp_path)
    try:
        with pytest.raises(WorkerFailed, match="(?s)fails word ended.*out of luck"):
            worker.ask("step")
    finally:
        worker.close()
