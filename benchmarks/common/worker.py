"""The worker's side of `common.worker_process`: it steps when told to.

Every line that it reads is answered by one line of JSON.
"""

import json
import os
import sys

from benchmarks.common import costs

_answers = sys.stdout


def keep_output_clean():
    """Sends what is printed to standard error, libraries' talk too, but for `say`."""
    global _answers
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def say(**figures):
    """Prints a line of JSON."""
    print(json.dumps(figures), file=_answers, flush=True)


def answer(step):
    """Says that all is ready, then runs `step()` as often as each line asks for.

    Answers with lists of "wall" and "cpu" seconds and of the "value" of each call, and
    with "growth_mib": by how much peak memory has ever exceeded what was in use before
    the first call.
    """
    costs.forget_peak()
    before = costs.resident_mib()
    say(ready=True)
    for line in sys.stdin:
        figures = {"wall": [], "cpu": [], "value": []}
        for _ in range(int(line)):
            start = costs.now()
            value = step()
            wall, cpu = costs.since(start)
            figures["wall"].append(wall)
            figures["cpu"].append(cpu)
            figures["value"].append(value)
        say(**figures, growth_mib=costs.peak_mib() - before)
