"""What a run costs: seconds, seconds of CPU time and memory."""

import os
import pathlib
import subprocess
import time


def now():
    """(wall, CPU) seconds of this process, to subtract from later ones."""
    return time.perf_counter(), time.process_time()


def since(start):
    """(wall, CPU) seconds since what `now` gave."""
    return tuple(after - before for before, after in zip(start, now(), strict=True))


def resident_mib():
    """What this process has in memory."""
    return _status_mib("VmRSS")


def peak_mib():
    """The most that this process has had in memory, since `forget_peak` if called."""
    return _status_mib("VmHWM")


def forget_peak():
    """Has Linux count the peak from what is in memory at present."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def of_command(command, **options):
    """Runs a command to its end; what it and the processes that it waited for cost.

    Args:
      command: List of words.
      **options: Of `subprocess.Popen`.

    Returns:
      As `Clock.read`.

    Raises:
      SystemExit: The command failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], **options)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


class Clock:
    """Counts from when it was made, and what is charged besides.

    Args:
      forgets_peak: Whether what the process had in memory before does not count.
    """

    def __init__(self, forgets_peak=False):
        if forgets_peak:
            forget_peak()
        self._start = now()
        self._charged = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_mib": 0.0}

    def charge(self, costs):
        """Adds what was computed once for several runs, as if this one had done it."""
        for name in ("seconds", "cpu_seconds"):
            self._charged[name] += costs[name]
        self._charged["peak_mib"] = max(self._charged["peak_mib"], costs["peak_mib"])

    def read(self):
        """Dict of "seconds", "cpu_seconds" and "peak_mib", the process's peak."""
        seconds, cpu_seconds = since(self._start)
        return {
            "seconds": seconds + self._charged["seconds"],
            "cpu_seconds": cpu_seconds + self._charged["cpu_seconds"],
            "peak_mib": max(peak_mib(), self._charged["peak_mib"]),
        }


def _status_mib(field):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {field} in /proc/self/status")
