"""A module of the benchmarks in a process of its own, asked line by line."""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.common.provenance import PROJECT


def module_command(module, *arguments):
    """`python -m module` with arguments, to be run in the project's root."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def in_folder(folder):
    """Options of `subprocess` to run in a folder, whose packages come first.

    What is not there comes from this project.
    """
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return {"cwd": folder, "env": variables}


class WorkerProcess:
    """`python -m module` with arguments; each line sent is answered by one of JSON.

    Args:
      module: Its name, such as "benchmarks.kernel.worker".
      *arguments: Its arguments.
      folder: Where it runs; packages that lie there are imported before others.
      environment: Variables set for it, besides those of this process; None unsets.
    """

    def __init__(self, module, *arguments, folder=PROJECT, environment=None):
        options = in_folder(folder)
        variables = {**options["env"], **(environment or {})}
        self.name = " ".join(map(str, (module, *arguments)))
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            module_command(module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=options["cwd"],
            env={k: v for k, v in variables.items() if v is not None},
        )

    def send(self, line):
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `read` tells.

    def read(self):
        """The next answer, a dict. Raises `WorkerFailed` where it has ended."""
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().splitlines()[-5:]
            raise WorkerFailed("\n  ".join([f"{self.name} ended:", *last]))
        return json.loads(line)

    def ask(self, line):
        self.send(line)
        return self.read()

    def close(self):
        self._process.kill()
        self._process.wait()
        self._errors.close()


class WorkerFailed(RuntimeError):
    """A worker's process has ended; the message ends in its last lines."""


class SteppingWorker(WorkerProcess):
    """A worker that runs `common.worker.answer`; keeps what its steps cost.

    Attributes:
      times: {"wall": seconds, "cpu": seconds}, lists of one entry a step.
      values: What the steps returned.
      growth_mib: By how much peak memory has exceeded what was in use before.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.times = {"wall": [], "cpu": []}
        self.values, self.growth_mib = [], 0.0

    def step(self, calls=1):
        """Runs so many steps and returns their answer, as it came."""
        answer = self.ask(calls)
        for name, times in self.times.items():
            times += answer[name]
        self.values += answer["value"]
        self.growth_mib = answer["growth_mib"]
        return answer

    def forget_times(self):
        """Leaves out what has been timed so far, such as steps that allocate."""
        self.times = {"wall": [], "cpu": []}

    def median(self, field):
        return statistics.median(self.times[field])
