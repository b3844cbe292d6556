"""Keeps frequencies and a live index current between trainings.

Files appear in two folders: `events`, tables of interactions, and `items`, Parquet
tables of new or changed items with the features that the item tower takes. Each file is
read once:

    python examples/online.py --events events --items items --state state \
        --index live_items --tower item_tower

A writer gives a file its name when it is whole: it writes under a name that begins with
"." or "_", and renames. What was learned and which files were read are one checkpoint.
So a process that was ended goes on where it was, and a training restores the
frequencies by `tf.train.Checkpoint(frequency=...)`.
"""

import argparse
import functools
import pathlib
import time

import pyarrow.parquet as pq
import tensorflow as tf

import tfrs_negatives as tn

# What an index takes in one change, and more than a tower should embed at once.
BATCH = 4096


class Follower:
    """Reads files as they appear.

    Args:
      events: Folder of tables of interactions.
      items: Folder of Parquet tables, with a column "item" and the tower's features.
      state: Folder of checkpoints.
      index: Open `index.LiveIndex`.
      embed: Signature of a SavedModel, from features to one output.
      num_ids: About how many items there are.
    """

    def __init__(self, events, items, state, index, embed, num_ids=100_000):
        self._events, self._items = pathlib.Path(events), pathlib.Path(items)
        self._index, self._embed = index, embed
        self.frequency = tn.layers.StreamingFrequency(num_ids=num_ids)
        self._done = tf.Variable(tf.zeros([0], tf.string), False, shape=[None])
        self._checkpoint = tf.train.Checkpoint(
            frequency=self.frequency, done=self._done
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(state), max_to_keep=2
        )
        if self._manager.latest_checkpoint is None:
            self._manager.save()
        self._restore()

    def look(self):
        """Reads the files that are new. Returns their paths."""
        found = []
        for folder, read in (
            (self._items, self._read_items),
            (self._events, self._read_events),
        ):
            for path in sorted(folder.glob("[!._]*")):
                # A late file is new whatever its name.
                name = f"{folder.name}/{path.name}"
                if name.encode() in self._done.numpy().tolist():
                    continue
                try:
                    read(path)
                except BaseException:
                    self._restore()  # Half a file was not read.
                    raise
                self._done.assign(tf.concat([self._done, [name]], axis=0))
                self._manager.save()
                found.append(path)
        return found

    def _restore(self):
        self._checkpoint.restore(self._manager.latest_checkpoint)

    def _read_events(self, path):
        for rows in tn.data.stream_interactions(path).rebatch(BATCH):
            self.frequency(rows["item"], training=True)

    def _read_items(self, path):
        names = list(self._embed.structured_input_signature[1])
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["item", *names]):
            columns = {
                name: tf.constant(batch.column(name).to_numpy(zero_copy_only=False))
                for name in names
            }
            (embeddings,) = self._embed(**columns).values()
            # Again after a restart: an item is replaced by itself.
            self._index.upsert(batch.column("item").to_pylist(), embeddings.numpy())


def main():
    parser = argparse.ArgumentParser()
    add = functools.partial(parser.add_argument, required=True, metavar="PATH")
    add("--events", help="folder of tables with a column `item`, which appear")
    add("--items", help="folder of tables of items and their features")
    add("--state", help="folder of checkpoints")
    add("--index", help="a live index, which this script alone may write")
    add("--tower", help="SavedModel of the item tower")
    parser.add_argument("--seconds", type=float, default=5.0, help="between two looks")
    options = parser.parse_args()
    index = tn.index.LiveIndex.open(options.index)
    embed = tf.saved_model.load(options.tower).signatures["serving_default"]
    follower = Follower(options.events, options.items, options.state, index, embed)
    try:
        while True:
            for path in follower.look():
                print(f"read {path}: {index.statistics()['items']:,} items", flush=True)
            time.sleep(options.seconds)
    finally:
        index.close()


if __name__ == "__main__":
    main()
