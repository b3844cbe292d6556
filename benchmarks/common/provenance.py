"""Where a benchmark's figures come from: the last columns of every table."""

import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess

PROJECT = pathlib.Path(__file__).parents[2]
FIELDS = ["device", "versions", "commit"]


def provenance(names):
    """Device, versions of the packages `names` that are installed, and commit.

    Of the device's cores it says how many this thread may use.
    """
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    model = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "device": f"{model}, {_cores()}",
        "versions": "; ".join(versions),
        "commit": commit_of(PROJECT),
    }


def commit_of(folder):
    """The commit that a checkout stands at, or nothing where there is none.

    Ends in "+" where tracked Python files have changed since.
    """
    commit = _git(folder, "rev-parse", "--short", "HEAD")
    if _git(folder, "diff", "HEAD", "--name-only", "--", ":/*.py"):
        commit += "+"
    return commit


def _cores():
    mine, every = len(os.sched_getaffinity(0)), os.cpu_count()
    return f"{every} cores" if mine == every else f"{mine} of {every} cores"


def _git(folder, *words):
    """What git prints about a checkout, or nothing where there is none or no git."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=False
    ).stdout.strip()
