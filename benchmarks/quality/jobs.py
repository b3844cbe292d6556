"""Runs workers and writes what they say to a CSV, leaving out what it holds."""

import concurrent.futures
import json
import os
import queue
import subprocess
import threading

from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import module_command
from benchmarks.quality import results


def run_all(jobs, path, parallel=1, start=None):
    """Runs jobs in their order, but for those whose rows are in the file.

    Args:
      jobs: List of (data, name, subject, setting, seed, validation), the setting as
        text.
      path: Of the CSV.
      parallel: How many run at a time, each on its own part of the cores.
      start: Function of a command and environment to the lines that it prints.

    Returns:
      How many jobs failed.
    """
    start = start or _lines_of
    done = {results.key(row) for row in results.read(path)}
    left = [job for job in jobs if _key(job) not in done]
    if jobs:
        print(f"{len(jobs) - len(left)} of {len(jobs)} done already", flush=True)
    writing = threading.Lock()

    def run(place):
        data, name, _, setting, seed, _ = left[place]
        about = f"{place + 1} of {len(left)}: {data}, {name}, seed {seed}, {setting}"
        print(about, flush=True)
        try:
            rows = _rows(left[place], start)
        except subprocess.CalledProcessError as error:
            print(f"{about}: failed with exit code {error.returncode}", flush=True)
            return False
        with writing:
            for row in rows:
                results.append(path, row)
                figures = [row[f] for f in (*results.MEASURES[:2], *results.COSTS)]
                print(f"{place + 1} of {len(left)}:", row["variant"], *figures)
        return True

    parts = _parts_of_cores(parallel)
    with concurrent.futures.ThreadPoolExecutor(
        parallel, initializer=lambda: os.sched_setaffinity(0, parts.get())
    ) as pool:
        return list(pool.map(run, range(len(left)))).count(False)


def _key(job):
    data, name, _, setting, seed, _ = job
    return data, name, setting, str(seed)


def _parts_of_cores(number):
    """A queue of sets of cores, one for each thread; its processes inherit them."""
    cores = sorted(os.sched_getaffinity(0))
    parts = queue.SimpleQueue()
    for place in range(number):
        parts.put(set(cores[place::number] or cores))
    return parts


def _rows(job, start):
    """The rows of a job, all or nothing: some of its variants would count as done."""
    data, name, subject, setting, seed, validation = job
    environment = {**os.environ}
    if subject.keras:
        environment["TF_USE_LEGACY_KERAS"] = "1" if subject.keras == 2 else "0"
    # Before it runs: commits may come meanwhile.
    where = provenance(subject.packages)
    asked = {
        "module": subject.module,
        "setting": json.loads(setting),
        "data": data,
        "seed": seed,
        "validation": validation,
    }
    command = module_command("benchmarks.quality.worker", json.dumps(asked))
    keys = {"data": data, "subject": name, "setting": setting, "seed": seed}
    return [
        {**keys, **json.loads(line), **where} for line in start(command, environment)
    ]


def _lines_of(command, environment):
    process = subprocess.run(
        command,
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return process.stdout.splitlines()
