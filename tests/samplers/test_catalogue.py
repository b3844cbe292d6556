"""Training against all items is the plain softmax over the catalogue.

The oracle is that softmax in NumPy, in float64: no columns, no log q, no copies.
"""

import numpy as np
import pytest
import tensorflow as tf
from grids import grid, some_of

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.models import Model
from tfrs_negatives.samplers import Catalogue
from tfrs_negatives.tasks import Retrieval

USERS, ITEMS, ROWS, WIDTH = 5, 9, 23, 4
IDS = {
    "integers": 100 - 7 * np.arange(ITEMS),
    "strings": np.array([f"item {i}" for i in range(ITEMS)]),
    "row numbers": np.arange(ITEMS),
}
MASKS = {
    "none": (),
    "known": ("known",),
    "shared": ("shared",),
    "both": ("known", "shared"),
}


class Rows:
    """Rows of which users and items repeat; one item is a positive of none."""

    def __init__(self, seed=0, size=ROWS, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.users = rng.integers(0, USERS, size)
        self.items = rng.integers(0, ITEMS - 1, size)
        self.items[1::5] = self.items[0]
        self.weights = rng.uniform(0.5, 2, size)
        self.known = [rng.integers(0, ITEMS, n) for n in rng.integers(0, 3, size)]
        self.tables = [
            rng.normal(size=(n, WIDTH)).astype(dtype) for n in (USERS, ITEMS)
        ]

    def allowed(self, masks):
        """[B, N] bool, which items are in each row's sum; its positive always is."""
        allowed = np.ones((len(self.users), ITEMS), bool)
        for i, user in enumerate(self.users):
            if "known" in masks:
                allowed[i, self.known[i]] = False
            if "shared" in masks:
                allowed[i, self.items[self.users == user]] = False
            allowed[i, self.items[i]] = True
        return allowed


def full_softmax(rows, masks=(), temperature=0.5, rho=None):
    """The weighted loss, and its gradients in both tables."""
    users, items = (table.astype(np.float64) for table in rows.tables)
    scores = users[rows.users] @ items.T / temperature
    scores[~rows.allowed(masks)] = -np.inf
    own = np.arange(len(scores)), rows.items
    of_positives = scores[own]
    if rho is not None:
        scores[own] = -np.inf
    log_sums = np.log(np.exp(scores).sum(axis=1))
    d_scores = np.exp(scores - log_sums[:, None])
    if rho is not None:
        log_sums, d_scores = rho * log_sums, rho * d_scores
    d_scores[own] -= 1
    d_scores *= rows.weights[:, None] / temperature
    d_users = np.zeros_like(users)
    np.add.at(d_users, rows.users, d_scores @ items)
    d_items = d_scores.T @ users[rows.users]
    return rows.weights @ (log_sums - of_positives), d_users, d_items


def make_task(catalogue, masks=(), **options):
    return Retrieval(
        **{
            "temperature": 0.5,
            "positive": "negatives",
            "remove_accidental_hits": True,
            "mask_shared_positives": "shared" in masks,
            "sampling_correction": catalogue.log_q,
            **options,
        }
    )


def call(task, catalogue, tables, rows, masks=(), form="distinct", ids=None):
    """The loss of a task, from embeddings given once each or gathered."""
    ids = IDS["row numbers"] if ids is None else ids
    columns = catalogue.columns(tf.constant(ids[rows.items]))
    given = {"candidate_ids": columns.ids, "sample_weight": rows.weights}
    if "known" in masks:
        given["known_positive_ids"] = tf.ragged.constant(
            [ids[known].tolist() for known in rows.known],
            dtype=columns.ids.dtype,
        )
    if "shared" in masks:
        given["query_keys"] = rows.users
    users, items = tables
    if form == "distinct":
        given["query_rows"] = rows.users
    else:
        users = tf.gather(users, rows.users)
    if form == "gathered":
        items = tf.gather(items, columns.rows)
    else:
        given["candidate_rows"] = columns.rows
    return task(users, items, training=True, **given)


def with_gradients(function, tables):
    tables = [tf.constant(table) for table in tables]
    with tf.GradientTape() as tape:
        tape.watch(tables)
        loss = function(tables)
    gradients = tape.gradient(loss, tables)
    return [tf.convert_to_tensor(x).numpy() for x in (loss, *gradients)]


def check(found, expected, tolerance=1e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "masks, form, kind",
    grid(MASKS, ["distinct", "items once", "gathered"], IDS, rounds=2),
)
def test_is_the_full_softmax(masks, form, kind):
    rows, masks, ids = Rows(), MASKS[masks], IDS[kind]
    catalogue = Catalogue(ids)
    task = make_task(catalogue, masks)
    found = with_gradients(
        lambda tables: call(task, catalogue, tables, rows, masks, form, ids),
        rows.tables,
    )
    check(found, full_softmax(rows, masks))


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("form", ["distinct", "gathered"])
def test_with_the_positive_outside_of_the_sum(masks, form):
    rows, masks = Rows(seed=3), MASKS[masks]
    catalogue = Catalogue(np.arange(ITEMS))
    task = make_task(catalogue, masks, positive="outside", negative_weight=1.3)
    found = with_gradients(
        lambda tables: call(task, catalogue, tables, rows, masks, form), rows.tables
    )
    check(found, full_softmax(rows, masks, rho=1.3))


@pytest.mark.parametrize("jit_compile", some_of([False, True], [True]))
def test_in_a_graph_and_under_xla(jit_compile):
    rows = Rows(seed=1)
    catalogue = Catalogue(np.arange(ITEMS))
    task = make_task(catalogue, MASKS["both"])

    @tf.function(jit_compile=jit_compile)
    def step(tables):
        return call(task, catalogue, tables, rows, MASKS["both"])

    check(with_gradients(step, rows.tables), full_softmax(rows, MASKS["both"]))


@pytest.mark.parametrize("row_block", [1, 4])
def test_in_blocks_of_single_precision(row_block):
    rows = Rows(seed=2, dtype=np.float32)
    catalogue = Catalogue(np.arange(ITEMS))
    task = make_task(catalogue, MASKS["shared"], row_block=row_block)
    found = with_gradients(
        lambda tables: call(task, catalogue, tables, rows, MASKS["shared"]),
        rows.tables,
    )
    check(found, full_softmax(rows, MASKS["shared"]), 1e-5)


def test_a_batch_whose_rows_have_all_items():
    """No item of the catalogue is new to the batch, and some are there many times."""
    rows = Rows(seed=3, size=60)
    rows.items[:ITEMS] = np.arange(ITEMS)
    catalogue = Catalogue(np.arange(ITEMS))
    task = make_task(catalogue)
    found = with_gradients(
        lambda tables: call(task, catalogue, tables, rows), rows.tables
    )
    check(found, full_softmax(rows))


def test_replicas_compute_what_one_does(two_replicas):
    rows = Rows(seed=4, size=21)
    with two_replicas.scope():
        catalogue = Catalogue(np.arange(ITEMS))
        task = make_task(catalogue)
    tables = [tf.constant(table) for table in rows.tables]

    def part(context):
        here = slice(0, 12) if context.replica_id_in_sync_group == 0 else slice(12, 21)
        return tuple(
            tf.constant(x[here]) for x in (rows.users, rows.items, rows.weights)
        )

    def step(users, items, weights):
        columns = catalogue.columns(items)
        with tf.GradientTape() as tape:
            tape.watch(tables)
            loss = task(
                tables[0],
                tables[1],
                query_rows=users,
                candidate_rows=columns.rows,
                candidate_ids=columns.ids,
                sample_weight=weights,
                training=True,
            )
        gradients = tape.gradient(loss, tables)
        return [tf.convert_to_tensor(x) for x in (loss, *gradients)]

    batch = two_replicas.experimental_distribute_values_from_function(part)
    outputs = tf.function(lambda *b: two_replicas.run(step, args=b))(*batch)
    found = [sum(two_replicas.experimental_local_results(o)) for o in outputs]
    check(found, full_softmax(rows))


class TwoTower(Model):
    """Towers that are given each user and each item of a step once."""

    def __init__(self, tables, catalogue, task):
        super().__init__()
        self.users, self.items = (
            keras.layers.Embedding(
                *t.shape,
                embeddings_initializer=keras.initializers.Constant(t),
            )
            for t in tables
        )
        self.catalogue, self.task, self.traces = catalogue, task, []

    def compute_loss(self, features, training=False):
        self.traces.append(training)
        columns = self.catalogue.columns(features["item"])
        users, query_rows = tf.unique(features["user"])
        return self.task(
            self.users(users),
            self.items(columns.features["row"]),
            query_rows=query_rows,
            candidate_rows=columns.rows,
            candidate_ids=columns.ids,
            sample_weight=features["weight"],
            training=training,
        )


def test_fit_descends_the_gradient_of_the_full_softmax():
    """A dozen steps of gradient descent, a smaller last batch among them."""
    rows = Rows(seed=5, size=30, dtype=np.float32)
    names = IDS["strings"]
    features = {"name": names, "row": np.arange(ITEMS)}
    catalogue = Catalogue(features, id_feature="name")
    columns = {
        "user": rows.users,
        "item": names[rows.items],
        "weight": rows.weights.astype(np.float32),
    }
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(8)
    model = TwoTower(rows.tables, catalogue, make_task(catalogue))
    model.compile(keras.optimizers.SGD(0.05))
    model.fit(dataset, epochs=3, verbose=0)

    expected = [table.astype(np.float64) for table in rows.tables]
    for _ in range(3):
        for start in range(0, 30, 8):
            part = Rows(seed=5, size=30)
            part.tables = expected
            here = slice(start, start + 8)
            part.users, part.items = rows.users[here], rows.items[here]
            part.weights = rows.weights[here]
            _, *gradients = full_softmax(part)
            expected = [
                table - 0.05 * gradient
                for table, gradient in zip(expected, gradients, strict=True)
            ]
    tables = [np.asarray(t.embeddings) for t in (model.users, model.items)]
    check(tables, expected, 1e-4)
    assert np.abs(tables[1] - rows.tables[1]).max() > 0.1
    # The first batch, and one of any size.
    assert len(model.traces) <= 2


def test_log_q_is_of_how_many_columns_hold_the_item():
    layer = Catalogue(np.array([5, -1, 8])).log_q
    ids = tf.constant([8, 8, 5, 5, -1, 8])
    np.testing.assert_allclose(
        np.exp(layer(ids, num_positives=3)), [3, 3, 2, 2, 1, 3], rtol=1e-6
    )
    rebuilt = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(rebuilt(ids), layer(ids))
    assert repr(layer) == "CatalogueLogQ(num_items=3)"


def test_a_task_is_rebuilt_from_its_config():
    rows, catalogue = Rows(), Catalogue(np.arange(ITEMS))
    task = make_task(catalogue)
    rebuilt = Retrieval.from_config(task.get_config())
    found = with_gradients(
        lambda tables: call(rebuilt, catalogue, tables, rows), rows.tables
    )
    check(found, full_softmax(rows))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"positive": "all"}, 'expected `positive="negatives"` or "outside"'),
        ({"positive": "refined"}, 'expected `positive="negatives"` or "outside"'),
        ({"remove_accidental_hits": False}, "expected `remove_accidental_hits=True`"),
        ({"num_hard_negatives": 3}, "expected `num_hard_negatives=None`"),
        ({"global_negatives": True}, "expected `global_negatives=False`"),
        ({"memory": CrossBatchMemory(9, WIDTH)}, "expected `memory=None`"),
        (
            {
                "loss": SampledSigmoid(positive="negatives"),
                "temperature": None,
                "positive": "all",
            },
            "expected a softmax",
        ),
    ],
)
def test_options_that_would_not_be_exact_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(Catalogue(np.arange(ITEMS)), **options)


def test_keys_alone_are_refused():
    """They would drop the columns that the user's rows brought, not the others."""
    rows, catalogue = Rows(), Catalogue(np.arange(ITEMS))
    task, columns = make_task(catalogue), catalogue.columns(rows.items)
    with pytest.raises(ValueError, match="expected `mask_shared_positives=True`"):
        task(
            rows.tables[0],
            rows.tables[1],
            query_rows=rows.users,
            candidate_rows=columns.rows,
            candidate_ids=columns.ids,
            query_keys=rows.users,
            training=True,
        )


def test_columns_without_the_catalogue_are_refused():
    catalogue = Catalogue(np.arange(ITEMS))
    task, table = make_task(catalogue), tf.ones([4, WIDTH])
    given = {"candidate_ids": tf.range(4), "training": True}
    message = "pass the task what `samplers.Catalogue.columns` returns"
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        task(table, table, **given)

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32)])
    def step(table):
        return task(table, table, **{**given, "candidate_ids": tf.range(len(table))})

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        step(table)


def test_ids_that_the_catalogue_lacks():
    for ids, unknown in ((IDS["integers"], 5), (IDS["strings"], "new")):
        catalogue = Catalogue(ids)
        given = tf.constant([ids[0], unknown])
        for columns in (catalogue.columns, tf.function(catalogue.columns)):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=f"(?s)of the catalogue.*{unknown}"
            ):
                columns(given)
    with pytest.raises(ValueError, match="`ids` must hold strings"):
        catalogue.columns([1, 2])
    with pytest.raises(ValueError, match="`ids` must have rank 1"):
        catalogue.columns([["item 1"]])


def test_bad_catalogues():
    with pytest.raises(ValueError, match="each id once.*1 are repeats, 7 for one"):
        Catalogue([7, 8, 7])
    with pytest.raises(ValueError, match="at least one"):
        Catalogue(np.zeros([0], np.int64))
    with pytest.raises(
        ValueError, match=r"1000 items.*at most `max_bytes`, 134400, which is 100 items"
    ):
        Catalogue(np.arange(1000), max_bytes=134_400)
    assert Catalogue(np.arange(1000), max_bytes=None).num_items == 1000
    with pytest.raises(ValueError, match="`max_bytes` must be an integer"):
        Catalogue([1], max_bytes=0)
    expected = "Catalogue(num_items=1000, max_bytes=1500000)"
    assert repr(Catalogue(np.arange(1000), max_bytes=1_500_000)) == expected
