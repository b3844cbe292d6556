"""Two commits of the task, compared in turns."""

import shutil
import sys

import pytest

from benchmarks.common.provenance import PROJECT
from benchmarks.kernel import commits


class Worker:
    """Stands in for a side's process: how long its steps take, and its losses."""

    def __init__(self, log, side, seconds, value, growth):
        self.log, self.side, self._seconds, self._value = log, side, seconds, value
        self.times, self.values = {"wall": [], "cpu": []}, []
        self.growth_mib = growth

    def read(self):
        return {"ready": True}

    def step(self, calls=1):
        self.log.append(self.side)
        answer = {"wall": [self._seconds] * calls, "cpu": [self._seconds / 2] * calls}
        for name, times in self.times.items():
            times += answer[name]
        self.values += [self._value] * calls
        return answer

    def forget_times(self):
        self.times = {"wall": [], "cpu": []}

    def close(self):
        self.log.append("end")


def fake(monkeypatch, new_value=2.0):
    log = []
    sides = {
        "OLD": lambda: Worker(log, "old", 0.02, 2.0, 10.0),
        "NEW": lambda: Worker(log, "new", 0.01, new_value, 12.04),
    }
    monkeypatch.setattr(
        commits, "SteppingWorker", lambda *_, folder, **__: sides[folder]()
    )
    return log


def test_sides_take_turns(monkeypatch):
    log = fake(monkeypatch)
    folders = {"old": "OLD", "new": "NEW"}
    found = commits.compare(("plain",), folders, 2, processes=2, seconds=0, least=3)
    # A first turn of each, which tells how many steps a turn has, then three.
    assert log == (["old", "new"] * 4 + ["end", "end"]) * 2
    # 10 steps of 10 ms make a turn of 0.1 s; two pairs of processes, three turns each.
    assert (found["turns"], found["steps"]) == (6, 60)
    assert (found["wall_ms_old"], found["wall_ms_new"]) == (20.0, 10.0)
    assert (found["wall_new_over_old"], found["cpu_new_over_old"]) == (0.5, 0.5)
    assert (found["memory_mib_old"], found["memory_mib_new"]) == (10.0, 12.0)
    assert found["value_difference"] == "0.0e+00"


@pytest.mark.parametrize(("value", "differs"), [(2.000001, False), (2.001, True)])
def test_losses_must_agree(monkeypatch, tmp_path, value, differs):
    fake(monkeypatch, value)
    monkeypatch.setattr(commits, "package_of", PackageOf)
    words = ["commits", "OLD", "NEW", "--calls", "plain", "--batch", "8"]
    words += ["--seconds", "0", "--output", str(tmp_path / "rows.csv")]
    monkeypatch.setattr(sys, "argv", words)
    if differs:
        with pytest.raises(SystemExit, match="differs: plain, B = 8"):
            commits.main()
    else:
        commits.main()
    header, row = (tmp_path / "rows.csv").read_text().splitlines()
    assert header.split(",") == commits.FIELDS
    assert row.startswith("task,plain,8,64,2,OLD,NEW,")


class PackageOf:
    """A folder by the name of its commit."""

    def __init__(self, source):
        self.source = source

    def __enter__(self):
        return self.source, self.source

    def __exit__(self, *_):
        return None


@pytest.mark.slow(reason="four pairs of processes that import TensorFlow")
@pytest.mark.parametrize("subject", ["task", "task-eager"])
def test_each_side_imports_its_own_package(tmp_path, monkeypatch, subject):
    folder = tmp_path / "tfrs_negatives"
    shutil.copytree(PROJECT / "tfrs_negatives", folder)
    version = folder / "tasks" / "retrieval.py"
    source = version.read_text()
    # A loss of other scores.
    changed = source.replace("class Retrieval(", "class Unchanged(", 1)
    changed += (
        "\n\nclass Retrieval(Unchanged):\n"
        "    def call(self, *args, **kwargs):\n"
        "        return 3.0 * super().call(*args, **kwargs)\n"
    )
    words = ["commits", str(PROJECT), str(tmp_path), "--subject", subject, "--quick"]
    monkeypatch.setattr(sys, "argv", words)
    commits.main()
    version.write_text(changed)
    with pytest.raises(SystemExit, match="the loss differs"):
        commits.main()
