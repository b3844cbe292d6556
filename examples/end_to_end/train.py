"""Trains two towers on the rows that the pipeline has put in order.

Start it on every worker with its own TF_CONFIG (see `multi_worker.py`); each reads its
part of the files. Without TF_CONFIG it is one worker. The towers are written as two
SavedModels, of users and of items.
"""

import argparse
import functools
import json

import tensorflow as tf

import tfrs_negatives as tn

keras = tf.keras


def batches(folder, context, batch_size, sampler, negatives, seed=0):
    """This worker's rows, again and again, with uniform negatives."""
    files = sorted(tf.io.gfile.glob(f"{folder}/rows/*.parquet"))
    mine = files[context.input_pipeline_id :: context.num_input_pipelines]
    parts = [tn.data.stream_interactions(file) for file in mine]
    rows = functools.reduce(tf.data.Dataset.concatenate, parts).repeat()
    rows = rows.map(lambda row: {"user": row["user"], "item": row["item"]})
    size = context.get_per_replica_batch_size(batch_size)
    rows = rows.rebatch(size, drop_remainder=True)
    rows = sampler.attach(rows, negatives, seed=seed, input_context=context)
    return rows.prefetch(2)


def build(users, items, counts, sampler, dim):
    """The model; log q of a column is that of the batch and the sample together."""
    user_tower = tn.towers.Tower([tn.towers.Id("user")], dim=dim)
    item_tower = tn.towers.Tower([tn.towers.Id("item")], dim=dim)
    task = tn.tasks.Retrieval(
        temperature=0.1,
        remove_accidental_hits=True,
        global_negatives=True,
        sampling_correction=tn.layers.MixedLogQ(
            [tn.layers.StaticFrequency((items, counts)), sampler.log_q]
        ),
    )
    return tn.models.TwoTower(
        user_tower.adapt({"user": users}), item_tower.adapt({"item": items}), task
    )


def export(tower, column, path):
    """Writes a tower with a signature that takes its ids by name."""
    spec = tf.TensorSpec([None], tf.int64, column)
    embed = tf.function(lambda ids: tower({column: ids}))
    tf.saved_model.save(tower, path, embed.get_concrete_function(spec))


def train(folder, batch_size, epochs, dim, negatives):
    # First of all: it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    items, counts = tn.pipeline.read_counts(f"{folder}/item_counts")
    users, of_users = tn.pipeline.read_counts(f"{folder}/user_counts")
    sampler = tn.samplers.Uniform({"item": items}, id_feature="item")
    with strategy.scope():
        model = build(users, items, counts, sampler, dim)
        model.compile(keras.optimizers.Adam(0.01))
    rows = strategy.distribute_datasets_from_function(
        lambda context: batches(folder, context, batch_size, sampler, negatives)
    )
    steps = max(1, int(of_users.sum()) // batch_size)
    model.fit(rows, epochs=epochs, steps_per_epoch=steps, verbose=2)
    if strategy.cluster_resolver.task_id in (None, 0):
        export(model.user_tower, "user", f"{folder}/user_tower")
        export(model.item_tower, "item", f"{folder}/item_tower")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--training", type=json.loads, help="arguments of `train`")
    arguments = parser.parse_args()
    train(arguments.folder, **arguments.training)
