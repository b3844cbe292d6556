"""The GPU's benchmark from end to end, on a processor."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.common import csv_rows
from benchmarks.common.provenance import PROJECT
from benchmarks.gpu import run
from benchmarks.gpu.cases import PEERS, Case, quick_cases
from benchmarks.gpu.report import summary

CASE = quick_cases()[0]


def start(module, *arguments, **environment):
    found = subprocess.run(
        [sys.executable, "-m", f"benchmarks.gpu.{module}", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.mark.slow(reason="exports 22 programs, compiles them, times 35 cases")
def test_from_export_to_rows(tmp_path):
    """And what was measured before is not measured again."""
    for name in ("jax", "torch"):
        pytest.importorskip(name, reason="`pip install .[test-benchmarks]` has it")
    pytest.importorskip("tensorflow_recommenders")
    programs, rows = tmp_path / "programs", tmp_path / "rows.csv"
    start("export", "--quick", "--output", programs)
    words = "--quick", "--programs", programs, "--output", rows
    # Neither TensorFlow nor the package can be imported where programs run.
    for name in ("tensorflow", "tfrs_negatives"):
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text("raise ImportError\n")
    path = {"PYTHONPATH": str(tmp_path / "hidden")}
    printed = start("run", *words, **path)
    found = csv_rows.read(rows)
    assert len(found) == len(quick_cases())
    for row in found:
        if row["subject"] in PEERS:
            continue
        assert row["status"] == "ok", row
        assert float(row["ms"]) > 0 and row["device"]
        assert row["gradient_error"]
        if row["dtype"] != "bfloat16":
            assert float(row["gradient_error"]) < 1e-5
        if row["subject"] != "torch_eager" and row["tensorflow_error"]:
            assert float(row["tensorflow_error"]) < 1e-5
    assert "over floor" in printed
    kept = [row for row in found if row["status"] == "ok"]
    # Peers that are not installed are looked for again.
    left = len(found) - len(kept)
    assert f"{left} cases, {len(kept)} are there" in start("run", *words, **path)
    assert csv_rows.read(rows)[: len(found)] == found
    assert "| ours |" in start("report", "--rows", rows)

    listed = start("profile", "--programs", programs).split()
    assert CASE.program in listed
    folder = tmp_path / "profile"
    words = "--programs", programs, "--program", CASE.program, "--output", folder
    assert "MiB, of it written" in start("profile", *words, "--executions", 0)
    assert not (folder / "plugins").exists()
    start("profile", *words)
    assert (folder / "plugins").exists()
    assert "HloModule" in (folder / "optimised.hlo").read_text()
    memory = json.loads((folder / "analysis.json").read_text())["memory"]
    assert memory["temp_size_in_bytes"] > 0


@pytest.mark.slow(reason="compiles three programs")
def test_memory_is_linear_in_the_batch():
    """As XLA itself accounts for it, with blocks of one number of rows."""
    pytest.importorskip("jax", reason="`pip install .[test-benchmarks]` has it")
    code = """
import sys
from benchmarks.gpu.export import lowered
from benchmarks.gpu.cases import Case
from benchmarks.gpu.problems import Problem
from benchmarks.gpu.xla_worker import Executable
for rows in (1024, 2048, 4096):
    case = Case("ours", Problem(rows, 0, 16), "float32", 64)
    function, signature, _ = lowered(case)
    text = function.experimental_get_compiler_ir(*signature)(stage="hlo_serialized")
    print(Executable(text).memory_mib)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr[-3000:]
    sizes = [float(line) for line in printed.stdout.split()]
    for smaller, larger in zip(sizes, sizes[1:], strict=False):
        assert larger < 2.1 * smaller
    # Scores of one block are 1 MiB at the largest size.
    assert sizes[-1] < 8


class Engines:
    """Stands in for the workers."""

    def __init__(self, answers, references=("ok",)):
        self.asked, self._answers = [], answers
        self._references = [*references]

    def ask(self, engine, case, write=False, **_):
        self.asked.append((engine, case.subject, write))
        if not write:
            return self._answers.get(case.subject, ANSWER)
        more = len(self._references) > 1
        return {"status": self._references.pop(0) if more else self._references[0]}

    def close(self, *engines):
        self.asked.append(("close", *sorted(engines)))


ANSWER = {"status": "ok", "ms": 1.0, "loss_error": 1e-7, "gradient_error": 1e-6}


def measured(cases, engines, deadline=float("inf")):
    return [run.row_of(*found) for found in run.measure(cases, engines, 0, 1, deadline)]


def test_what_has_no_memory_or_no_package_is_a_row():
    cases = [case for case in quick_cases() if case.dtype == "float32"][:11]
    answers = {
        "tfrs": {"status": "out of memory", "why": "RESOURCE_EXHAUSTED"},
        "liger": {"status": "not installed", "why": "No module"},
        "mined": {**ANSWER, "gradient_error": 0.5},
        "distinct": {**ANSWER, "gradient_error": float("nan")},
    }
    rows = {row["subject"]: row for row in measured(cases, Engines(answers))}
    assert rows["tfrs"]["status"] == "out of memory" and rows["tfrs"]["ms"] is None
    assert rows["liger"]["status"] == "not installed"
    assert rows["mined"]["status"] == rows["distinct"]["status"] == "differs"
    assert rows["ours"]["status"] == "ok"
    assert set(rows["ours"]) <= set(run.FIELDS)


def status_of(subject="ours", dtype="float32", **answer):
    case = Case(subject, CASE.problem, dtype)
    return run.row_of(case, {**ANSWER, **answer})["status"]


def test_what_was_never_compared_is_not_ok():
    nothing = {"loss_error": None, "gradient_error": None}
    assert status_of(**nothing) == "unchecked"
    assert status_of("torch_eager", "bfloat16", **nothing) == "unchecked"
    # The floor has no loss.
    assert status_of("floor", loss_error=None) == "ok"
    assert status_of(status="failed", **nothing) == "failed"


def test_float32_agrees_with_what_tensorflow_gave():
    assert status_of(tensorflow_error=1e-6) == "ok"
    for error in (1e-3, float("nan")):
        assert status_of(tensorflow_error=error) == "differs"
        # TensorFlow ran it on a processor, in float32.
        assert status_of(dtype="tf32", tensorflow_error=error) == "ok"


def test_references_that_failed_are_tried_again():
    engines = Engines({}, references=["out of memory", "ok"])
    measured([CASE] * 3, engines)
    assert [write for _, _, write in engines.asked] == [True, False, True, False, False]


def test_what_is_run_again():
    about = {"programs": "of now", "device": "this card"}
    row = {name: str(value) for name, value in CASE.columns.items()}
    done = {tuple(row[name] for name in run.CASE)}
    for status in ("ok", "out of memory"):
        assert run.settled([{**row, **about, "status": status}], about) == done
    for status in ("failed", "differs", "unchecked", "not installed"):
        assert not run.settled([{**row, **about, "status": status}], about)
    for other in ("programs", "device"):
        changed = {**row, **about, "status": "ok", other: "another"}
        assert not run.settled([changed], about)


def test_a_report_compares_what_is_ok_alone():
    def row(subject, status, ms, **columns):
        case = Case(subject, CASE.problem, "float32").columns
        return {
            **{name: str(value) for name, value in case.items()},
            **{"status": status, "ms": ms, "memory_mib": "", "gradient_error": ""},
            **{"programs": "p", "device": "d", **columns},
        }

    text = summary(
        [
            row("ours", "failed", ""),
            row("ours", "ok", "2"),
            row("floor", "unchecked", "7.5"),
            row("tfrs", "ok", "6"),
            row("mined", "differs", "8.5"),
            row("ours", "ok", "1", device="another"),
        ]
    )
    lines = [line.strip("|").split("|") for line in text.splitlines()[2:]]
    cells = [[cell.strip() for cell in line][5:10] for line in lines]
    assert cells == [
        ["ours", "ok", "2.000", "", ""],
        ["floor", "unchecked", "", "", ""],
        ["tfrs", "ok", "6.000", "", ""],
        ["mined", "differs", "", "", ""],
        ["ours", "ok", "1.000", "", ""],
    ]
    assert "3.00" in lines[2][10] and "7.5" not in text and "8.5" not in text


def test_programs_of_changed_code_are_not_kept():
    pytest.importorskip("tensorflow_recommenders")
    from benchmarks.gpu.export import check_same_commit

    check_same_commit("folder", "abc", "abc")
    for theirs, ours in (("abc", "def"), ("abc+", "abc+"), ("abc", "abc+")):
        with pytest.raises(SystemExit, match="Write to another folder"):
            check_same_commit("folder", theirs, ours)


def test_references_are_made_once_and_large_cases_are_alone():
    small, large = (case for case in (CASE, run.all_cases()[0]))
    large = type(large)("ours", type(large.problem)(65_536, 0, 8), "float32")
    engines = Engines({})
    measured([small, small, large], engines)
    assert engines.asked == [
        ("torch", "ours", True),
        ("xla", "ours", False),
        ("xla", "ours", False),
        ("torch", "ours", True),
        ("close", "torch"),
        ("xla", "ours", False),
    ]


def test_nothing_starts_when_time_is_over(capsys):
    engines = Engines({})
    assert measured([CASE, CASE], engines, deadline=0) == []
    assert engines.asked == []
    assert "no time for 2 more cases" in capsys.readouterr().out


class Worker:
    """Stands in for a worker's process; its cases end it or hang."""

    made = []

    def __init__(self, *_):
        self.closed = threading.Event()
        self.made.append(self)

    def read(self):
        return {"ready": True}

    def ask(self, _):
        raise run.WorkerFailed("ended:\n  Killed")

    def close(self):
        self.closed.set()


class HangingWorker(Worker):
    made = []

    def ask(self, _):
        # As one that is killed while it computes, here after a minute at most.
        killed = self.closed.wait(60)
        raise run.WorkerFailed("killed" if killed else "never killed")


def test_a_worker_that_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "WorkerProcess", Worker)
    engines = run.Engines(tmp_path, deadline=time.monotonic() + 1000)
    assert engines.ask("xla", CASE) == {"status": "failed", "why": "ended:\n  Killed"}
    assert Worker.made[-1].closed.is_set()
    # Another is started for the next case.
    count = len(Worker.made)
    engines.ask("xla", CASE)
    assert len(Worker.made) == count + 1


def test_a_worker_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "WorkerProcess", HangingWorker)
    start = time.monotonic()
    engines = run.Engines(tmp_path, deadline=start + 0.2)
    assert engines.ask("xla", CASE) == {"status": "no time"}
    assert HangingWorker.made[-1].closed.is_set()
    assert time.monotonic() - start < 30
