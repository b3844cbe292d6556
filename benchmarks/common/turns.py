"""Timing of functions that take turns, so that a busy machine is fair to all."""

import numpy as np

from benchmarks.common import costs


def alternate(functions, seconds, least=5, repeats=1, batches=((),), swap=False):
    """(wall, CPU) seconds a call, [turns, 2] of each function.

    Args:
      functions: Functions by name.
      seconds: How long to go on. A first turn of each is not timed.
      least: Turns at least.
      repeats: Calls a turn, or a dict of them by name.
      batches: Tuples of arguments: the first turn's, the second's and so on, and again
        from the start.
      swap: Whether who goes first changes from turn to turn: who comes later may find
        the batch in the cache.
    """
    if isinstance(repeats, int):
        repeats = dict.fromkeys(functions, repeats)
    for name, function in functions.items():
        for _ in range(repeats[name]):
            function(*batches[0])
    times = {name: [] for name in functions}
    start, turn = costs.now(), 0
    while costs.since(start)[0] < seconds or turn < least:
        batch = batches[turn % len(batches)]
        turn += 1
        for name in list(functions)[:: -1 if swap and turn % 2 else 1]:
            began = costs.now()
            for _ in range(repeats[name]):
                functions[name](*batch)
            times[name].append(np.array(costs.since(began)) / repeats[name])
    return {name: np.array(taken) for name, taken in times.items()}


def medians(times, decimals=2):
    """The columns `turns`, `wall_ms` and `cpu_ms` of a table, of a function's times."""
    wall, cpu = 1e3 * np.median(times, axis=0)
    return {
        "turns": len(times),
        "wall_ms": round(float(wall), decimals),
        "cpu_ms": round(float(cpu), decimals),
    }


def ratios(above, below):
    """(wall, CPU): medians over turns of one function's times over another's.

    Of neighbouring turns, which the machine's load changes alike.
    """
    wall, cpu = np.median(np.asarray(above) / np.asarray(below), axis=0)
    return float(wall), float(cpu)


def share_of_step(with_it, without_it):
    """Columns of a table: what a step costs, without something, and its share of that.

    Args:
      with_it: Times [turns, 2] of the step.
      without_it: Of the same step without the thing whose share is asked for.
    """
    columns = {"repeats": len(with_it)}
    below = medians(without_it)
    shares = ratios(with_it, without_it)
    for name, share in zip(("wall", "cpu"), shares, strict=True):
        columns[f"{name}_ms"] = medians(with_it)[f"{name}_ms"]
        columns[f"{name}_ms_without"] = below[f"{name}_ms"]
        columns[f"share_{name}"] = round(share - 1, 4)
    return columns
