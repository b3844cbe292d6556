"""A two-tower model with the right negatives, from a table to a served index.

Run it with `python examples/two_tower.py`; it needs the extras `demo` and
`scann`. It works under Keras 2 (`TF_USE_LEGACY_KERAS=1`) and Keras 3.
"""

import argparse
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

import tfrs_negatives as tn

keras = tf.keras


class TwoTower(tn.models.Model):
    """Users and items as embeddings of their ids."""

    def __init__(self, users, items, sampler, dim=32, **options):
        super().__init__()
        self.user_tower = self._tower(users, dim)
        self.item_tower = self._tower(items, dim)
        self.task = tn.tasks.Retrieval(
            temperature=0.1,
            remove_accidental_hits=True,
            sampling_correction=tn.layers.MixedLogQ(
                [tn.layers.StreamingFrequency(), sampler.log_q]
            ),
            **options,
        )

    def _tower(self, ids, dim):
        return keras.Sequential(
            [
                keras.layers.IntegerLookup(vocabulary=ids),
                keras.layers.Embedding(len(ids) + 1, dim),
                keras.layers.UnitNormalization(),
            ]
        )

    def compute_loss(self, features, training=False):
        # The sampled items go through the item tower with the batch's own.
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(items),
            candidate_ids=items,
            query_keys=features["user"],
            training=training,
        )


def interactions(rows=None, context=None):
    """Batches of MovieLens with sampled items, its users and items, the sampler.

    `context` is the `tf.distribute.InputContext` of an input pipeline among several.
    """
    table = tn.data.interactions()  # From the package index.
    users, items = np.unique(table.user), np.unique(table.item)
    columns = {"user": table.user[:rows], "item": table.item[:rows]}
    sampler = tn.samplers.Uniform(items)
    batches = tf.data.Dataset.from_tensor_slices(columns).shuffle(10**6, seed=1)
    batches = sampler.attach(batches.batch(1024), 512, input_context=context)
    return batches.prefetch(2), users, items, sampler


def compiled_model(users, items, sampler, **options):
    model = TwoTower(users, items, sampler, **options)
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model


def main(output, epochs, rows=None):
    batches, users, items, sampler = interactions(rows)
    model = compiled_model(users, items, sampler)
    model.fit(batches, epochs=epochs)

    index = tn.index.ScaNN(k=10).index(model.item_tower(tf.constant(items)), items)
    tn.index.export_retrieval(
        output,
        model.user_tower,
        index,
        query_signature=tf.TensorSpec([None], tf.int64, name="user"),
    )
    served = tf.saved_model.load(str(output)).signatures["serving_default"]
    answer = served(user=tf.constant(users[:1]), k=tf.constant(5))
    print("User", users[0], "->", answer["ids"].numpy()[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, help="where to export")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="use only the first rows")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = arguments.output or pathlib.Path(folder) / "model"
        main(output, arguments.epochs, arguments.rows)
