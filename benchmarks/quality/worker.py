"""One training run, in a process of its own; prints a line of JSON a ranker.

It takes a line of JSON as argument: the subject's module, its setting, the data set,
the seed, and whether to measure on validation interactions. What the subject prints
goes to standard error. The times are those of training alone; memory is the peak of the
process until training has ended.
"""

import importlib
import json
import os
import pathlib
import sys

import shared_work
import splits
from evaluate import evaluate

sys.path.append(str(pathlib.Path(__file__).parents[1]))

import costs  # noqa: E402


def variants(module, trained, setting):
    """Triples (name, ranker, further figures) of what was trained; most have one."""
    if hasattr(module, "variants"):
        return module.variants(trained, setting)
    return [("", trained, {})]


def main(job, say):
    split = splits.load(job["data"])
    if job["validation"]:
        split = split.validation()
    module = importlib.import_module(job["module"])
    clock = costs.Clock()
    trained = module.fit(split.train, job["setting"], job["seed"])
    for charge in shared_work.charges():
        clock.charge(charge)
    decimals = {"seconds": 1, "cpu_seconds": 1, "peak_mib": 0}
    spent = {
        name: f"{value:.{decimals[name]}f}" for name, value in clock.read().items()
    }
    for name, ranker, others in variants(module, trained, job["setting"]):
        measures = {n: f"{v:.6f}" for n, v in evaluate(ranker, split).items()}
        say({"variant": name, **measures, **spent, "others": json.dumps(others)})


if __name__ == "__main__":
    # Libraries talk on standard output; only our lines may go there.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(json.loads(sys.argv[1]), lambda row: print(json.dumps(row), file=out))
