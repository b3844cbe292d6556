"""The quality benchmark's runner and worker."""

import itertools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from benchmarks.common.provenance import PROJECT
from benchmarks.common.worker_process import module_command
from benchmarks.quality import jobs, report, results, run, subjects, tables


class Workers:
    """Stands in for processes of workers; notes what it was asked for."""

    def __init__(self, fail=()):
        self.jobs, self.cores, self._fail = [], [], fail

    def __call__(self, command, environment):
        job = json.loads(command[-1])
        self.jobs.append(job)
        self.cores.append(sorted(os.sched_getaffinity(0)))
        if job["seed"] in self._fail:
            raise subprocess.CalledProcessError(9, command)
        recall = str(job["setting"].get("rate", 0.5))
        row = dict.fromkeys([*results.MEASURES, *results.COSTS], recall)
        return [json.dumps({"variant": name, "others": "{}", **row}) for name in "ab"]


def test_runner_resumes(tmp_path):
    subject, path = subjects.Subject("peers.popularity"), tmp_path / "runs.csv"
    wanted = [("gowalla", "name", subject, "{}", seed, False) for seed in range(3)]
    first, second = Workers(fail=[1]), Workers()
    assert jobs.run_all(wanted, path, start=first) == 1
    assert jobs.run_all(wanted, path, start=second) == 0
    assert [job["seed"] for job in first.jobs] == [0, 1, 2]
    assert [job["seed"] for job in second.jobs] == [1]
    rows = results.read(path)
    assert [row["seed"] for row in rows] == ["0", "0", "2", "2", "1", "1"]
    assert [row["variant"] for row in rows] == ["a", "b"] * 3
    assert all(row["commit"] is not None and row["device"] for row in rows)
    other = [("gowalla", "name", subject, '{"rate": 1}', 0, False)]
    assert jobs.run_all(other, path, start=second) == 0
    assert second.jobs[-1]["setting"] == {"rate": 1}


def test_parallel_runs_share_the_cores(tmp_path):
    before = sorted(os.sched_getaffinity(0))
    subject, both = (
        subjects.Subject("peers.popularity"),
        threading.Barrier(2, timeout=60),
    )
    wanted = [("gowalla", "name", subject, "{}", seed, False) for seed in range(6)]
    workers = Workers()

    def start(command, environment):
        both.wait()  # Only two at a time get past.
        return workers(command, environment)

    assert jobs.run_all(wanted, tmp_path / "runs.csv", 2, start) == 0
    assert len(results.read(tmp_path / "runs.csv")) == 12
    used = sorted(set(map(tuple, workers.cores)))
    if len(before) > 1:
        assert len(used) == 2
        assert sorted(used[0] + used[1]) == before
    assert sorted(os.sched_getaffinity(0)) == before


def test_one_command_searches_runs_and_reports(tmp_path, monkeypatch):
    searched = subjects.Subject("m", grid={"rate": [0.1, 0.3, 0.2]})
    known = {
        "gowalla": subjects.Table(("data",), {"first": searched}, trials=3),
        "scale": subjects.Table(
            data=("data",),
            subjects={
                "alike": subjects.Subject("m", {"b": 1}, like=("gowalla", "first")),
                "fixed": subjects.Subject("m", {"b": 2}, seeded=False),
                "own": subjects.Subject("m", grid={"rate": [0.4, 0.6]}),
            },
            trials=2,
        ),
    }
    workers, reports = Workers(), []
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(tables, "load", known.get)
    monkeypatch.setattr(jobs, "_lines_of", workers)
    monkeypatch.setattr(report, "write", lambda: reports.append(len(workers.jobs)))
    monkeypatch.setattr(sys, "argv", ["run.py", "scale", "--seeds", "4", "5"])
    run.main()
    validation = [job["validation"] for job in workers.jobs]
    assert validation == [True] * 5 + [False] * 5
    of_trials = [job["setting"]["rate"] for job in workers.jobs[:5]]
    assert sorted(of_trials[:3]) == [0.1, 0.2, 0.3] and set(of_trials[3:]) == {0.4, 0.6}
    of_runs = [(job["seed"], job["setting"]) for job in workers.jobs[5:]]
    best = [{"b": 1, "rate": 0.3}, {"b": 2}, {"rate": 0.6}]
    seeds = [4, 0, 4, 5, 5]  # One that no seed changes runs once, as seed 0.
    assert of_runs == list(zip(seeds, [*best, best[0], best[2]], strict=True))
    assert reports == [10]
    run.main()
    assert len(workers.jobs) == 10 and reports == [10, 10]


@pytest.mark.slow(reason="a large real data set")
def test_worker_measures_popularity_on_gowalla(data_dir):
    path = data_dir / "gowalla.npz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    job = {"module": "peers.popularity", "setting": {}, "data": "gowalla", "seed": 0}
    words = json.dumps({**job, "validation": False})
    process = subprocess.run(
        module_command("benchmarks.quality.worker", words),
        cwd=PROJECT,
        env={**os.environ, "TFRS_NEGATIVES_DATA": str(data_dir)},
        stdout=subprocess.PIPE,
        check=True,
    )
    (row,) = map(json.loads, process.stdout.splitlines())
    with np.load(path) as file:
        data = dict(file)
    order = np.argsort(-np.bincount(data["train_item"]), kind="stable")
    seen, wanted = ({} for _ in range(2))
    for found, part in ((seen, "train"), (wanted, "test")):
        for user, item in zip(data[f"{part}_user"], data[f"{part}_item"], strict=True):
            found.setdefault(user, set()).add(item)
    recalls = []
    for user, items in wanted.items():
        ranked = (item for item in order if item not in seen.get(user, ()))
        hits = len(items & set(itertools.islice(ranked, 20)))
        recalls.append(hits / len(items))
    # Equal counts stand in an order that is the benchmark's own.
    assert float(row["recall_at_20"]) == pytest.approx(np.mean(recalls), abs=1e-4)
    assert float(row["cpu_seconds"]) >= 0 and float(row["peak_mib"]) > 1
