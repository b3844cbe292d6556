"""What a config says: a table's data sets, and its subjects with their grids."""

import dataclasses
import importlib
import itertools
import json
import random

from results import as_text, best_trial

NAMES = "gowalla", "ablation", "requests", "log_q", "scale", "serving"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that a table trains.

    Attributes:
      module: Of this folder, with `fit(train, setting, seed)` that returns a ranker, or
        `variants(train, setting, seed)` that yields pairs (name, ranker) of one
        training run.
      fixed: Settings that are not searched.
      grid: From a setting's name to the values among which a search draws.
      packages: Whose versions the rows give.
      keras: 2, 3 or None where Keras is not used.
      seeded: Whether runs of different seeds differ.
    """

    module: str
    fixed: dict = dataclasses.field(default_factory=dict)
    grid: dict = dataclasses.field(default_factory=dict)
    packages: tuple = ("tensorflow", "tf-keras", "numpy")
    keras: int | None = 2
    seeded: bool = True

    def trials(self, number):
        """That many distinct settings of the grid, the same at each call.

        All of them if there are no more. A longer search begins with a shorter one.
        """
        names = list(self.grid)
        every = list(itertools.product(*self.grid.values()))
        random.Random(0).shuffle(every)
        return [
            {**self.fixed, **dict(zip(names, values, strict=True))}
            for values in every[:number]
        ]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of `docs/results.md`.

    Attributes:
      data: Names that `splits.load` knows.
      subjects: From a row's name to its `Subject`.
      trials: How many settings a search tries for each subject with a grid.
      claims: Triples (claim, row, row): that the first row is better than the second.
      script: Instead of those, a benchmark of another folder that makes the table, as
        command-line words from the folder of the benchmarks on.
    """

    data: tuple = ()
    subjects: dict = dataclasses.field(default_factory=dict)
    trials: int = 0
    claims: tuple = ()
    script: tuple = ()


def load(name):
    """The `Table` with this name."""
    return importlib.import_module(f"configs.{name}").TABLE


def found(name, data, subject):
    """The setting, a dict, that the search of another table found for its subject."""
    best, _ = best_trial(name, data, subject)
    if not best:
        raise ValueError(f"No trial of {subject}: run tune.py {name} first.")
    return json.loads(best["setting"])


def setting_of(table, data, name, subject):
    """The setting that is run: the best one of the search, or the fixed one.

    None where a search is needed first.
    """
    if not subject.grid:
        return as_text(subject.fixed)
    best, _ = best_trial(table, data, name)
    return best and best["setting"]
