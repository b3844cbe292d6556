import numpy as np
import pytest
import tensorflow as tf
from grids import some_of

from tfrs_negatives import models, tasks
from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.optimizers import LazyAdam

RATE, BETA_1, BETA_2, EPSILON = 0.03, 0.8, 0.95, 1e-3
ROWS, WIDTH = 7, 3


class Oracle:
    """`torch.optim.SparseAdam` in float64, row by row; numbers in plain Python."""

    def __init__(self, table):
        self.table = table.astype(np.float64)
        self.mean = np.zeros_like(self.table)
        self.square = np.zeros_like(self.table)
        self.steps = 0

    def step(self, rows, gradients):
        self.steps += 1
        sums = {}
        for row, gradient in zip(rows, gradients, strict=True):
            sums[row] = sums.get(row, 0) + gradient.astype(np.float64)
        for row, gradient in sums.items():
            for place, g in enumerate(gradient):
                m = BETA_1 * self.mean[row, place] + (1 - BETA_1) * g
                v = BETA_2 * self.square[row, place] + (1 - BETA_2) * g**2
                self.mean[row, place], self.square[row, place] = m, v
                unbiased_m = m / (1 - BETA_1**self.steps)
                unbiased_v = v / (1 - BETA_2**self.steps)
                # Keras adds epsilon to the biased root.
                epsilon = EPSILON / np.sqrt(1 - BETA_2**self.steps)
                change = RATE * unbiased_m / (np.sqrt(unbiased_v) + epsilon)
                self.table[row, place] -= change


def new_variable(values):
    if IS_KERAS_3:
        return keras.Variable(values)
    return tf.Variable(values)


def tensor_of(variable):
    return tf.convert_to_tensor(variable)


def optimizer(cls=LazyAdam, **options):
    return cls(RATE, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON, **options)


def applied_by(made, variables, how, size=4):
    """A function that applies gradients `(rows, values)`, one a variable.

    Under XLA of `size` rows each, as many as one of `BATCHES` has.
    """

    def apply(*gradients):
        slices = [
            tf.IndexedSlices(values, rows, tf.constant([ROWS, WIDTH]))
            for rows, values in gradients
        ]
        made.apply_gradients(zip(slices, variables, strict=True))

    made.build(variables)
    if how == "eager":
        return apply
    # How many rows there are is not known while tracing, but under XLA.
    size = size if how == "xla" else None
    signature = (
        tf.TensorSpec([size], tf.int64),
        tf.TensorSpec([size, WIDTH], tf.float32),
    )
    return tf.function(
        apply, input_signature=[signature] * len(variables), jit_compile=how == "xla"
    )


# Rows that repeat within a batch, come again, and never come (6).
BATCHES = [[0, 2, 2, 5], [1, 2, 3, 1], [5, 5, 5, 5], [4, 0, 1, 2], [3, 2, 1, 0]]


def gradients_of(batches=BATCHES, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (
            np.array(rows, np.int64),
            rng.normal(size=(len(rows), WIDTH)).astype("float32"),
        )
        for rows in batches
    ]


@pytest.fixture
def table():
    return np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(np.float32)


def ways():
    # Keras 2 sums repeated rows by an operation that XLA does not know.
    return ["eager", "graph", *(["xla"] if IS_KERAS_3 else [])]


@pytest.mark.parametrize("how", ways())
def test_oracle(how, table):
    variable, expected = new_variable(table), Oracle(table)
    apply = applied_by(optimizer(), [variable], how)
    for rows, values in gradients_of():
        apply((tf.constant(rows), tf.constant(values)))
        expected.step(rows, values)
        np.testing.assert_allclose(tensor_of(variable), expected.table, atol=2e-6)


def test_rows_without_gradient_stay_to_the_bit(table):
    variable, made = new_variable(table), optimizer()
    apply = applied_by(made, [variable], "graph")
    states = []
    for rows, values in gradients_of():
        before = [np.array(v) for v in (tensor_of(variable), *tables_of(made))]
        apply((tf.constant(rows), tf.constant(values)))
        after = [np.array(v) for v in (tensor_of(variable), *tables_of(made))]
        others = [row for row in range(ROWS) if row not in rows]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(new[others], old[others])
            assert (new[rows] != old[rows]).all()
        states.append(after)
    assert len(states[0]) == 3  # The table, m and v.


def tables_of(made):
    variables = made.variables if IS_KERAS_3 else made.variables()
    return [tensor_of(v) for v in variables if tuple(v.shape) == (ROWS, WIDTH)]


def test_equals_adam_where_every_batch_has_every_row_once(table):
    batches = [np.random.default_rng(i).permutation(ROWS) for i in range(4)]
    found = []
    for cls in (LazyAdam, keras.optimizers.Adam):
        variable = new_variable(table)
        apply = applied_by(optimizer(cls), [variable], "graph")
        for rows, values in gradients_of(batches):
            apply((tf.constant(rows), tf.constant(values)))
        found.append(tensor_of(variable))
    np.testing.assert_allclose(*found, atol=1e-6)


def test_dense_gradients_are_adams(table):
    found = []
    for cls in (LazyAdam, keras.optimizers.Adam):
        variable, made = new_variable(table), optimizer(cls)
        for seed in range(3):
            gradient = tf.constant(
                np.float32(np.random.default_rng(seed).normal(size=(ROWS, WIDTH)))
            )
            made.apply_gradients([(gradient, variable)])
        found.append(tensor_of(variable))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("how", ways())
def test_a_batch_without_rows_changes_nothing(how, table):
    variable = new_variable(table)
    apply = applied_by(optimizer(), [variable], how, size=0)
    apply((tf.zeros([0], tf.int64), tf.zeros([0, WIDTH])))
    np.testing.assert_array_equal(tensor_of(variable), table)


def test_several_tables_keep_their_own_moments(table):
    variables = [new_variable(table), new_variable(-table)]
    expected = [Oracle(table), Oracle(-table)]
    apply = applied_by(optimizer(), variables, "graph")
    for first, second in zip(
        gradients_of(), gradients_of(BATCHES[::-1], 5), strict=True
    ):
        apply(
            *(
                (tf.constant(rows), tf.constant(values))
                for rows, values in (first, second)
            )
        )
        for oracle, gradient in zip(expected, (first, second), strict=True):
            oracle.step(*gradient)
    for variable, oracle in zip(variables, expected, strict=True):
        np.testing.assert_allclose(tensor_of(variable), oracle.table, atol=2e-6)


def test_what_was_read_before_a_step_stays_as_it_was(table):
    variable = new_variable(table)
    apply = applied_by(optimizer(), [variable], "eager")
    reads = []
    for rows, values in gradients_of():
        reads.append((tensor_of(variable), np.array(variable)))
        apply((tf.constant(rows), tf.constant(values)))
    assert (np.array(variable)[:6] != table[:6]).all()
    for kept, then in reads:
        np.testing.assert_array_equal(kept, then)


def test_schedules(table):
    variable, expected = new_variable(table), Oracle(table)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [RATE, 0.0])
    made = LazyAdam(schedule, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON)
    apply = applied_by(made, [variable], "graph")
    for step, (rows, values) in enumerate(gradients_of()):
        apply((tf.constant(rows), tf.constant(values)))
        if step < 2:
            expected.step(rows, values)
    np.testing.assert_allclose(tensor_of(variable), expected.table, atol=2e-6)


def test_config():
    made = keras.optimizers.deserialize(
        keras.optimizers.serialize(optimizer(clipnorm=2.0))
    )
    assert type(made) is LazyAdam
    found = [made.beta_1, made.beta_2, made.epsilon, made.clipnorm]
    assert found == [BETA_1, BETA_2, EPSILON, 2.0]
    assert float(made.learning_rate) == pytest.approx(RATE)


@pytest.mark.parametrize("name", ["amsgrad", "adaptive_epsilon"])
def test_options_that_it_lacks(name):
    with pytest.raises(ValueError, match=f"no `{name}`: expected False, received True"):
        LazyAdam(**{name: True})


@pytest.mark.skipif(IS_KERAS_3, reason="its optimizers have no `jit_compile`")
def test_keras_2_does_not_compile_it():
    with pytest.raises(ValueError, match="`jit_compile` False.*received True"):
        LazyAdam(jit_compile=True)
    assert not LazyAdam(jit_compile=False).jit_compile


class TwoTower(models.Model):
    def __init__(self):
        super().__init__()
        self.user_tower = keras.layers.Embedding(ROWS, WIDTH)
        self.item_tower = keras.Sequential(
            [keras.layers.Embedding(ROWS, WIDTH), keras.layers.Dense(WIDTH)]
        )
        self.task = tasks.Retrieval()

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]), self.item_tower(features["item"])
        )

    @property
    def tables(self):
        layers = [self.user_tower, self.item_tower.layers[0]]
        return [np.array(layer.embeddings) for layer in layers]


def batches_of(users, items):
    rows = {"user": tf.constant(users), "item": tf.constant(items)}
    return tf.data.Dataset.from_tensors(rows)


def test_fit_changes_the_rows_of_a_batch_alone():
    model = TwoTower()
    model.compile(LazyAdam(0.1))
    model.fit(batches_of(range(ROWS), range(ROWS)), verbose=0)
    before, kernel = model.tables, np.array(model.item_tower.layers[1].kernel)
    model.fit(batches_of([1, 1, 2], [0, 3, 3]), epochs=3, verbose=0)
    for old, new, rows in zip(before, model.tables, ([1, 2], [0, 3]), strict=True):
        changed = (old != new).any(axis=1)
        assert np.flatnonzero(changed).tolist() == rows
    assert (kernel != np.array(model.item_tower.layers[1].kernel)).all()


ADAMS = [LazyAdam, keras.optimizers.Adam]


@pytest.mark.parametrize(
    "cls, other",
    some_of(
        [(cls, other) for cls in ADAMS for other in ADAMS],
        [(LazyAdam, keras.optimizers.Adam)],
    ),
)
def test_checkpoints_are_adams(cls, other, tmp_path):
    """One run, cut in two with the other class, goes on as if it were not."""
    batch = batches_of(range(ROWS), range(ROWS))

    def trained(cls, epochs, path=None):
        keras.utils.set_random_seed(0)
        model = TwoTower()
        model.compile(cls(0.1))
        model.fit(batch, epochs=1, verbose=0)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        if path is not None:
            checkpoint.restore(path).assert_existing_objects_matched()
        model.fit(batch, epochs=epochs, verbose=0)
        return model.tables, checkpoint

    straight, _ = trained(cls, 3)
    _, checkpoint = trained(other, 1)
    path = checkpoint.save(str(tmp_path / "adam"))
    for expected, found in zip(straight, trained(cls, 2, path)[0], strict=True):
        np.testing.assert_allclose(expected, found, atol=1e-5)


def test_a_saved_model_trains_on(tmp_path):
    """As one does that was not saved, moments and steps included."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Embedding(ROWS, WIDTH), keras.layers.Dense(1)]
    )
    model.compile(LazyAdam(0.1), "mse")
    rows, targets = tf.constant([[1], [2], [2]]), tf.constant([[[1.0]]] * 3)

    def trained(model, epochs):
        model.fit(rows, targets, epochs=epochs, shuffle=False, verbose=0)
        return [np.array(w) for w in model.get_weights()]

    before = trained(model, 2)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.optimizer) is LazyAdam
    found, expected = trained(loaded, 2), trained(model, 2)
    for one, other, old in zip(found, expected, before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        assert (one != old).any()


@pytest.mark.slow(reason="fits on one replica and on two")
def test_replicas_train_as_one():
    # Rows that both replicas have.
    rows = {"user": tf.constant([0, 1, 2, 1]), "item": tf.constant([3, 3, 4, 5])}
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(4).repeat(3)

    def trained(strategy):
        with strategy.scope():
            model = TwoTower()
            model.task = tasks.Retrieval(global_negatives=True)
            model.compile(LazyAdam(0.1))
            model.user_tower.build(None)
            model.item_tower.build([None])
        rng = np.random.default_rng(3)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        model.fit(batches, verbose=0)
        return model.tables

    alone = trained(tf.distribute.OneDeviceStrategy("CPU:0"))
    operations = tf.distribute.ReductionToOneDevice()
    together = trained(
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=operations)
    )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
