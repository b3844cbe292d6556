"""What a run costs: seconds, seconds of CPU time and peak memory."""

import pathlib
import time


class Clock:
    """Counts from when it was made, and what is charged besides.

    Args:
      forget_peak: Whether what the process had in memory before does not count.
    """

    def __init__(self, forget_peak=False):
        if forget_peak:
            pathlib.Path("/proc/self/clear_refs").write_text("5")
        self._start = self._now()
        self._charged = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_mib": 0.0}

    def charge(self, costs):
        """Adds what was computed once for several runs, as if this one had done it."""
        for name in ("seconds", "cpu_seconds"):
            self._charged[name] += costs[name]
        self._charged["peak_mib"] = max(self._charged["peak_mib"], costs["peak_mib"])

    def read(self):
        """Dict of "seconds", "cpu_seconds" and "peak_mib", the process's peak."""
        found = {
            name: now - self._start[name] + self._charged[name]
            for name, now in self._now().items()
        }
        return {**found, "peak_mib": max(_peak_mib(), self._charged["peak_mib"])}

    def _now(self):
        return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def _peak_mib():
    """The most memory this process has had so far."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    raise ValueError("no VmHWM in /proc/self/status")
