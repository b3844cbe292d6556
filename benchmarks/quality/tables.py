"""What a config says: a table's data sets, and its subjects with their grids."""

import dataclasses
import importlib
import itertools
import json
import random

import results

NAMES = "gowalla", "ablation", "requests", "log_q", "scale", "serving"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that a table trains.

    Attributes:
      module: Of this folder, with `fit(train, setting, seed)` that returns a ranker. It
        may have `variants(trained, setting)`, which yields triples of a name, a ranker
        and further figures, a dict of floats, of what `fit` returned.
      fixed: Settings that are not searched.
      grid: From a setting's name to the values among which a search draws.
      second_round: Settings, dicts, that it tries besides: around the best of those
        drawn, chosen once these were known.
      earlier: Trials of what became this subject, before its grid was set.
      like: Pair (table, subject) whose search found further settings; `fixed` goes
        before them.
      packages: Whose versions the rows give.
      keras: 2, 3 or None where Keras is not used.
      seeded: Whether runs of different seeds differ.
    """

    module: str
    fixed: dict = dataclasses.field(default_factory=dict)
    grid: dict = dataclasses.field(default_factory=dict)
    second_round: tuple = ()
    earlier: int = 0
    like: tuple | None = None
    packages: tuple = ("tensorflow", "tf-keras", "numpy")
    keras: int | None = 2
    seeded: bool = True

    def trials(self, number):
        """The settings of a search, as texts: drawn ones, then the second round's.

        Args:
          number: How many distinct ones of the grid are drawn, the same at each call;
            all if it has no more. A longer search begins with a shorter one.
        """
        if not self.grid:
            return []
        every = list(itertools.product(*self.grid.values()))
        random.Random(0).shuffle(every)
        drawn = [dict(zip(self.grid, values, strict=True)) for values in every[:number]]
        settings = [*drawn, *self.second_round]
        return [results.as_text({**self.fixed, **setting}) for setting in settings]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of `docs/results.md`.

    Attributes:
      data: Names that `splits.load` knows.
      subjects: From a row's name to its `Subject`.
      trials: How many settings are drawn from the grid of each subject that has one.
      claims: Triples (claim, row, row): that the first row is better than the second.
      scripts: Instead of those, commands of a benchmark of another folder that make
        the table, as words from the folder of the benchmarks on.
    """

    data: tuple = ()
    subjects: dict = dataclasses.field(default_factory=dict)
    trials: int = 0
    claims: tuple = ()
    scripts: tuple = ()


def load(name):
    """The `Table` with this name."""
    return importlib.import_module(f"configs.{name}").TABLE


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
        return results.as_text(subject.fixed)
    done, number = search(table, data, name)
    if len(done) < number:
        return None
    best = max(done, key=lambda row: float(row["recall_at_20"]))
    return results.as_text({**json.loads(best["setting"]), **subject.fixed})
