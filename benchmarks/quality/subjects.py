"""What a config says: a table's data sets, and its subjects with their grids."""

import dataclasses
import importlib
import itertools
import json
import random


def module_of(name):
    """The module of a subject, by the name that settings and rows have."""
    return importlib.import_module(f"benchmarks.quality.{name}")


def as_text(setting):
    """A setting as the CSV has it; equal settings give equal texts."""
    return json.dumps(setting, sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that a table trains.

    Attributes:
      module: Below `benchmarks.quality`, with `fit(train, setting, seed)` that returns
        a ranker. It may have `variants(trained, setting)`, which yields triples of a
        name, a ranker and further figures, a dict of floats, of what `fit` returned.
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
        return [as_text({**self.fixed, **setting}) for setting in settings]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of `docs/results.md`.

    Attributes:
      data: Names that `splits.load` knows.
      subjects: From a row's name to its `Subject`.
      trials: How many settings are drawn from the grid of each subject that has one.
      claims: Triples (claim, row, row): that the first row is better than the second.
      scripts: Instead of those, commands of another benchmark that make the table:
        its module and its arguments, words.
    """

    data: tuple = ()
    subjects: dict = dataclasses.field(default_factory=dict)
    trials: int = 0
    claims: tuple = ()
    scripts: tuple = ()
