"""Timing of functions that take turns, so that a busy machine is fair to all."""

import time

import numpy as np


def alternate(functions, seconds, least=5):
    """(wall, CPU) seconds a call [turns, 2] of each function.

    Args:
      functions: By name, a function and its calls a turn. A first turn is not timed.
      seconds: How long to go on.
      least: Turns at least.
    """
    times = {name: [] for name in functions}
    for function, repeats in functions.values():
        for _ in range(repeats):
            function()
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turns < least:
        turns += 1
        for name, (function, repeats) in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                function()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append(np.array(taken) / repeats)
    return {name: np.array(taken) for name, taken in times.items()}


def medians(times, name):
    """The columns `turns`, `wall_ms` and `cpu_ms` of a table."""
    wall, cpu = 1e3 * np.median(times[name], axis=0)
    return {
        "turns": len(times[name]),
        "wall_ms": round(float(wall), 2),
        "cpu_ms": round(float(cpu), 2),
    }
