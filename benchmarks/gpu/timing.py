"""How executions are timed: warmed up, in turns over sets of inputs, by medians."""

import statistics
import time

# Of a chain of executions, in seconds: long beside what it takes to ask for one.
_CHAIN = 0.02


def median_ms(seconds_of, num_sets, seconds, least=5):
    """Milliseconds of one execution, the median over chains of executions.

    A device works off in order what it is given. A chain of executions, of which the
    last is waited for, takes what the device takes for them, unless an execution is
    shorter than what Python takes to ask for it.

    Args:
      seconds_of: Function of a list of numbers of sets of inputs: executes with these,
        one after the other, waits for the last and returns the seconds.
      num_sets: How many sets there are; executions rotate over them.
      seconds: How long to go on.
      least: Chains at least.

    Returns:
      `(milliseconds, executions)`.
    """
    every = list(range(num_sets))
    seconds_of(every)  # Allocates, and may tune.
    chain = max(1, min(200, round(_CHAIN * num_sets / seconds_of(every))))
    times, count, began = [], 0, time.perf_counter()
    while len(times) < least or time.perf_counter() - began < seconds:
        sets = [place % num_sets for place in range(count, count + chain)]
        times.append(seconds_of(sets) / chain)
        count += chain
    return 1e3 * statistics.median(times), count
