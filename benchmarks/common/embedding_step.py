"""A training step of two embedding towers, to time what is added to it."""

import tensorflow as tf


def embedding_step(task, sizes, width):
    """A compiled step with Adam: users, rows of the items' table and ids to the loss.

    Args:
      task: A `tasks.Retrieval`; the user's other items are dropped.
      sizes: Rows of the users' table and of the items'.
      width: Numbers a row.
    """
    towers = [tf.keras.layers.Embedding(size, width) for size in sizes]
    optimizer = tf.keras.optimizers.Adam(0.01)
    variables = []
    for tower in towers:
        tower.build(None)
        variables += tower.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 3)
    def step(users, rows, ids):
        with tf.GradientTape() as tape:
            loss = task(
                towers[0](users),
                towers[1](rows),
                candidate_ids=ids,
                query_keys=users,
                training=True,
            )
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step
