"""One training run, in a process of its own; prints a line of JSON a ranker.

It takes a line of JSON as argument: the subject's module, its setting, the data set,
the seed, and whether to measure on validation interactions. What the subject prints
goes to standard error. The times are those of training alone; memory is the peak of the
process until training has ended.
"""

import json
import sys

from benchmarks.common import costs, worker
from benchmarks.quality import shared_work, splits
from benchmarks.quality.evaluate import evaluate
from benchmarks.quality.subjects import module_of


def variants(module, trained, setting):
    """Triples (name, ranker, further figures) of what was trained; most have one."""
    if hasattr(module, "variants"):
        return module.variants(trained, setting)
    return [("", trained, {})]


def main(job):
    split = splits.load(job["data"])
    if job["validation"]:
        split = split.validation()
    module = module_of(job["module"])
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
        others = json.dumps(others)
        worker.say(variant=name, **measures, **spent, others=others)


if __name__ == "__main__":
    worker.keep_output_clean()
    main(json.loads(sys.argv[1]))
