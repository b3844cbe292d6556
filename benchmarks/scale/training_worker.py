"""Trains on a table as `tfrs-negatives train` does, a turn at a time.

    python -m benchmarks.scale.training_worker SCRATCH train's options

The first line of JSON, once all is built, says what reading and building took. Each
line that comes is a number of steps; its answer says what they took. It ends with its
input.
"""

import functools
import pathlib
import sys

from benchmarks.common import costs
from benchmarks.common.worker import keep_output_clean, say
from tfrs_negatives._keras import keras
from tfrs_negatives.cli import arguments
from tfrs_negatives.cli.train_command import settings_of
from tfrs_negatives.recommender import Source, fitting, recipe
from tfrs_negatives.recommender.source import ROLES
from tfrs_negatives.recommender.time_split import split
from tfrs_negatives.recommender.towers_of import FeatureTables, Towers

# More than any run takes.
EPOCHS = 1_000_000


class Turns(keras.callbacks.Callback):
    """Holds training until a line says how many steps to make.

    Args:
      facts: What to say before the first.
    """

    def __init__(self, facts):
        super().__init__()
        self._facts, self._left = facts, 0

    def on_train_begin(self, logs=None):
        say(**self._facts, resident_mib=costs.resident_mib(), peak_mib=costs.peak_mib())
        self._next_turn()

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            wall, cpu = costs.since(self._start)
            say(
                wall=wall,
                cpu=cpu,
                resident_mib=costs.resident_mib(),
                peak_mib=costs.peak_mib(),
            )
            self._next_turn()

    def _next_turn(self):
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._left, self._start = int(line), costs.now()


def main():
    keep_output_clean()
    scratch, *words = sys.argv[1:]
    options = arguments.parse(
        ["train", *words, "--epochs", str(EPOCHS), "--no-early-stopping"]
    )
    began = costs.now()
    settings, seed = settings_of(options), options.seeds[0]
    source = Source(
        options.data, columns={role: getattr(options, role) for role in ROLES}
    )
    training = split(
        source.parts(),
        pathlib.Path(scratch),
        **settings.split_options(),
    ).training
    read = costs.since(began)
    began = costs.now()
    towers = Towers(training, FeatureTables(), settings, seed)
    model = recipe.build(training, towers, settings)
    prepared = functools.partial(
        recipe.with_inputs,
        training=training,
        towers=towers,
        settings=settings,
        seed=seed,
    )
    facts = {
        "rows": int(training.item_counts.sum()),
        "users": len(training.user_ids),
        "items": len(training.item_ids),
        "training_rows": len(training.rows),
        "seconds_to_read": read[0],
        "seconds_to_build": costs.since(began)[0],
    }
    turns = Turns(facts)
    fitting.fit(
        model, training, towers, settings, seed, prepared=prepared, callbacks=[turns]
    )


if __name__ == "__main__":
    main()
