"""The README's diff, applied to the basic retrieval model of TFRS's tutorial.

The tutorial's MovieLens is a small table of user ids and titles here. The changed model
needs no TFRS, so that it runs under both Kerases.
"""

import numpy as np
import pytest
import tensorflow as tf
from code_blocks import ROOT, blocks

# https://www.tensorflow.org/recommenders/examples/basic_retrieval, in the names of the
# README: the imports, the model, and what it is made of.
TUTORIAL = """
import tensorflow as tf
import tensorflow_recommenders as tfrs

class TwoTower(tfrs.Model):
    def __init__(self, user_tower, item_tower):
        super().__init__()
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
        )
"""


def applied(diff, text):
    """`text` with the changes of a diff without line numbers.

    Lines that the diff keeps or takes must follow one another in the text; "..." stands
    for any.
    """
    lines, place, written = text.splitlines(), 0, []
    for change in diff.splitlines():
        sign, content = change[:1], change[1:]
        if sign == "+":
            written.append(content)
            continue
        if not content.strip() or content.strip() == "...":
            continue
        while lines[place] != content:
            written.append(lines[place])
            place += 1
            assert place < len(lines), (
                f"the diff has a line that is not there: {content}"
            )
        if sign == " ":
            written.append(content)
        place += 1
    return "\n".join([*written, *lines[place:]])


@pytest.fixture(scope="module")
def diff():
    (block,) = blocks("diff")
    assert block.page == "README.md"
    return block


def tower(ids):
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=list(ids), mask_token=None),
            tf.keras.layers.Embedding(len(ids) + 1, 32),
        ]
    )


def test_it_applies_and_trains(diff):
    text = applied(diff.text, TUTORIAL)
    kept, taken, added = (
        [line[1:] for line in diff.text.splitlines() if line[:1] == sign]
        for sign in (" ", "-", "+")
    )
    assert len(added) >= 5 and len(taken) >= 1 and len(kept) >= 5
    for line in added:
        assert line in text.splitlines()
    names = {}
    exec(compile(text, str(ROOT / "README.md"), "exec"), names)

    rng = np.random.default_rng(0)
    users = np.array([str(i) for i in range(1, 31)])
    titles = np.array([f"Title {i} (19{70 + i % 30})" for i in range(60)])
    drawn = rng.integers(0, 30, 400)
    items = drawn % 5 + 5 * rng.integers(0, 12, 400)  # A user likes a fifth of them.
    ratings = tf.data.Dataset.from_tensor_slices(
        {"user": users[drawn], "item": titles[items]}
    ).batch(64)

    model = names["TwoTower"](tower(users), tower(titles))
    model.compile(tf.keras.optimizers.Adagrad(0.5))
    before = model.evaluate(ratings, verbose=0, return_dict=True)["loss"]
    history = model.fit(ratings, epochs=3, validation_data=ratings, verbose=0).history
    after = model.evaluate(ratings, verbose=0, return_dict=True)["loss"]
    assert history["val_loss"][-1] == pytest.approx(after, rel=1e-5)
    assert after < before - 0.3
    # Its candidates' frequencies were learned: 400 rows in 3 epochs.
    frequency = model.task.get_config()["sampling_correction"]
    assert frequency["class_name"] == "StreamingFrequency"


def test_the_model_before_it_is_that_of_tfrs(keras_2):
    import tensorflow_recommenders as tfrs

    names = {}
    exec(TUTORIAL, names)
    model = names["TwoTower"](tower(["1"]), tower(["Title"]))
    assert isinstance(model, tfrs.Model)
    assert np.isfinite(model.compute_loss({"user": ["1"], "item": ["Title"]}))
