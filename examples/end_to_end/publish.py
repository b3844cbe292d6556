"""Builds the index of all items and writes it with the user tower as one SavedModel."""

import argparse

import tensorflow as tf

import tfrs_negatives as tn


class UserTower(tf.Module):
    """The saved tower, which `export_retrieval` puts into the model it writes."""

    def __init__(self, path):
        self.saved = tf.saved_model.load(path)

    def __call__(self, user):
        (embeddings,) = self.saved.signatures["serving_default"](user=user).values()
        return embeddings


def publish(folder):
    items = tn.pipeline.read_embeddings(f"{folder}/item_vectors")
    index = tn.index.ScaNN(k=10).index_from_dataset(items)
    tn.index.export_retrieval(
        f"{folder}/model",
        UserTower(f"{folder}/user_tower"),
        index,
        query_signature=tf.TensorSpec([None], tf.int64, name="user"),
    )
    served = tn.index.load_retrieval(f"{folder}/model")
    answer = served.signatures["serving_default"](
        user=tf.constant([0], tf.int64), k=tf.constant(5)
    )
    print("User 0 ->", answer["ids"].numpy()[0].tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    publish(parser.parse_args().folder)
