"""One of two workers whose embeddings have another dtype or width than the other's.

disagreeing_worker.py DTYPE WIDTH: takes one step with global negatives.
"""

import sys

import tensorflow as tf

from tfrs_negatives.tasks import Retrieval


def main(dtype, width):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        task = Retrieval(global_negatives=True)

    @tf.function
    def step():
        embeddings = tf.ones([4, int(width)], dtype)
        return strategy.run(task, args=(embeddings, embeddings))

    step()


if __name__ == "__main__":
    main(*sys.argv[1:])
