"""Two towers of id embeddings, trained in-batch on pairs of a user and an item."""

import numpy as np
import tensorflow as tf

from tfrs_negatives import tasks

keras = tf.keras
WIDTH, TEMPERATURE, BATCH, RATE = 64, 0.1, 2048, 0.01


def train(users, items, correction, seed, epochs):
    """Trains two towers and returns their unit embeddings of all ids."""
    keras.utils.set_random_seed(seed)
    shuffle = np.random.default_rng(seed)
    query_tower = keras.layers.Embedding(users.max() + 1, WIDTH)
    candidate_tower = keras.layers.Embedding(items.max() + 1, WIDTH)
    task = tasks.Retrieval(temperature=TEMPERATURE, sampling_correction=correction)
    optimizer = keras.optimizers.legacy.Adam(RATE)
    users, items = tf.constant(users), tf.constant(items)
    query_tower(users[:1]), candidate_tower(items[:1])
    tables = query_tower.trainable_weights + candidate_tower.trainable_weights

    @tf.function
    def run_epoch(order):
        total = 0.0
        for step in tf.range(len(users) // BATCH):
            rows = order[step * BATCH : (step + 1) * BATCH]
            ids = tf.gather(items, rows)
            with tf.GradientTape() as tape:
                loss = task(
                    tf.math.l2_normalize(query_tower(tf.gather(users, rows)), axis=1),
                    tf.math.l2_normalize(candidate_tower(ids), axis=1),
                    candidate_ids=ids,
                    training=True,
                )
            # Adam moves every row at every step; in one pass if gradients are
            # dense, in several if they are sparse.
            gradients = map(tf.convert_to_tensor, tape.gradient(loss, tables))
            optimizer.apply_gradients(zip(gradients, tables, strict=True))
            total += loss / BATCH
        return total / (len(users) // BATCH)

    for epoch in range(epochs):
        loss = run_epoch(tf.constant(shuffle.permutation(len(users))))
        print(f"  epoch {epoch + 1}: loss {loss:.4f}", flush=True)
    return [tf.math.l2_normalize(table, axis=1).numpy() for table in tables]
