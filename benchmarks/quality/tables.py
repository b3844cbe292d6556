"""The tables of `docs/results.md`, and the settings that their searches chose."""

import json

from benchmarks.quality import results
from benchmarks.quality.subjects import as_text, module_of

NAMES = "gowalla", "ablation", "requests", "log_q", "scale", "serving", "losses"


def load(name):
    """The `Table` with this name."""
    return module_of(f"configs.{name}").TABLE


def source(table, name):
    """Pair (table, subject) whose search gives a subject its settings."""
    return load(table).subjects[name].like or (table, name)


def search(table, data, name):
    """The trials that a subject's search has done, rows, and how many it has in all."""
    table, name = source(table, name)
    settings = load(table).subjects[name].trials(load(table).trials)
    return results.trials(table, data, name, settings), len(settings)


def budget(table, data, name):
    """How many trials a subject's setting cost, as text."""
    table, name = source(table, name)
    earlier = load(table).subjects[name].earlier
    done, _ = search(table, data, name)
    return f"{earlier} + {len(done)}" if earlier else str(len(done))


def setting_of(table, data, name):
    """The setting that is run, as text: the best one of the search, or the fixed one.

    None where the search is not complete.
    """
    subject = load(table).subjects[name]
    if not (subject.grid or subject.like):
        return as_text(subject.fixed)
    done, number = search(table, data, name)
    if len(done) < number:
        return None
    best = max(done, key=lambda row: float(row["recall_at_20"]))
    return as_text({**json.loads(best["setting"]), **subject.fixed})
