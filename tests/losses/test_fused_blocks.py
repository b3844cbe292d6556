"""What XLA is given to compile, and what it makes of it, read from its programs."""

import collections
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from grids import grid

from tfrs_negatives.losses import SampledSoftmax, block_sizes, rules
from tfrs_negatives.tasks import Retrieval

WIDTH = 8
SPECS = [
    tf.TensorSpec([None, WIDTH], tf.float32),
    tf.TensorSpec([None, WIDTH], tf.float32),
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([None], tf.float32),
]


def compiled_step(dtype=tf.float32, **options):
    """A step of the task, every correction on, compiled for sizes known at run time."""
    task = Retrieval(temperature=0.1, remove_accidental_hits=True, **options)
    towers = [tf.TensorSpec(spec.shape, dtype) for spec in SPECS[:2]]

    @tf.function(input_signature=[*towers, *SPECS[2:]], jit_compile=True)
    def step(queries, candidates, ids, users, log_q):
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            loss = task(
                queries,
                candidates,
                candidate_ids=ids,
                query_keys=users,
                candidate_log_q=log_q,
            )
        return loss, tape.gradient(loss, [queries, candidates])

    return step


def inputs(rows, columns, dtype=tf.float32):
    rng = np.random.default_rng(0)
    return [
        tf.cast(rng.normal(size=(rows, WIDTH)), dtype),
        tf.cast(rng.normal(size=(columns, WIDTH)), dtype),
        tf.constant(rng.integers(0, columns, columns)),
        tf.constant(rng.integers(0, rows, rows)),
        tf.constant(-rng.random(columns) - 1, tf.float32),
    ]


def program(step, given, stage="optimized_hlo"):
    return step.experimental_get_compiler_ir(*given)(stage=stage)


def kinds(text):
    """How often each kind of instruction is in a program."""
    return collections.Counter(
        re.findall(r" = (?:\([^)]*\)|\S+) ([a-z][\w-]*)\(", text)
    )


def largest_array(text):
    """The most elements that an array of the program has."""
    shapes = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]+)\]", text)
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


# What breaks the fusion of all that is done to a score, or makes a GPU wait.
UNWANTED = {
    "sort",
    "scatter",
    "gather",
    "conditional",
    "custom-call",
    "infeed",
    "outfeed",
    "send",
    "recv",
    "rng",
}


@pytest.mark.parametrize(
    "row_block, positive", grid([48, None], ["all", "negatives", "refined", "outside"])
)
def test_nothing_is_sorted_scattered_or_branched_on(row_block, positive):
    step = compiled_step(row_block=row_block, positive=positive)
    found = kinds(program(step, inputs(128, 160)))
    assert not UNWANTED & set(found), found
    # One product of scores, two of gradients, once in the loop over blocks.
    assert found["dot"] == 3
    assert found["while"] == (0 if row_block is None else 1)


def test_mining_sorts_nothing_but_what_it_chooses_from():
    found = kinds(program(compiled_step(num_hard_negatives=5), inputs(128, 160)))
    assert found["dot"] == 3 and "conditional" not in found


def test_gpus_count_the_blocks_without_asking_the_host():
    text = program(compiled_step(row_block=48), inputs(128, 160))
    assert re.search(r'known_trip_count":\{"n":"3"', text)


def test_arrays_grow_with_the_batch_and_not_with_its_square():
    """No array has more than a block's scores, or what an embedding table has."""
    step = compiled_step(row_block=32)
    for rows in (256, 512, 1024):
        largest = largest_array(program(step, inputs(rows, rows)))
        assert largest == max(32 * rows, rows * WIDTH)


def test_an_evaluation_forms_no_gradients():
    task = Retrieval(row_block=16)
    step = tf.function(lambda q, c: task(q, c), jit_compile=True)
    found = kinds(program(step, inputs(64, 64)[:2]))
    assert found["dot"] == 1


def test_float32_is_rounded_only_where_tensorflow_may():
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        for allow in (True, False):
            tf.config.experimental.enable_tensor_float_32_execution(allow)
            text = program(compiled_step(), inputs(32, 32), "hlo")
            exact = text.count("operand_precision={highest,highest}")
            assert exact == (0 if allow else 3)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)


def float64_step(queries, candidates, ids, users, log_q):
    """Loss and gradients by NumPy."""
    queries, candidates = (np.asarray(x, np.float64) for x in (queries, candidates))
    ids, users, log_q = np.asarray(ids), np.asarray(users), np.asarray(log_q)
    rows = np.arange(len(queries))
    scores = queries @ candidates.T / 0.1 - log_q
    dropped = ids[rows, None] == ids
    dropped[:, rows] |= users[:, None] == users
    dropped[rows, rows] = False
    scores[dropped] = -np.inf
    largest = scores.max(1)
    powers = np.exp(scores - largest[:, None])
    loss = np.sum(np.log(powers.sum(1)) + largest - scores[rows, rows])
    slopes = powers / powers.sum(1, keepdims=True)
    slopes[rows, rows] -= 1
    slopes /= 0.1
    return loss, slopes @ candidates, slopes.T @ queries


@pytest.mark.parametrize("row_block", [None, 24])
@pytest.mark.parametrize(
    ("dtype", "of_loss", "of_gradients"),
    [(tf.float32, 1e-6, 2e-6), (tf.bfloat16, 1e-6, 4e-3)],
)
def test_errors_against_float64(dtype, of_loss, of_gradients, row_block):
    """The loss of bfloat16 is as exact as float32's: sums are float32's.

    Gradients have the 8 bits that towers in bfloat16 get, and no more error.
    """
    given = inputs(96, 128, dtype)
    found = compiled_step(dtype, row_block=row_block)(*given)
    expected = float64_step(*given)
    for place, (one, other) in enumerate(
        zip(tf.nest.flatten(found), expected, strict=True)
    ):
        one = np.asarray(tf.cast(one, tf.float64))
        error = np.linalg.norm(one - other) / np.linalg.norm(other)
        assert error < (of_gradients if place else of_loss)


def test_bfloat16_is_multiplied_as_it_is():
    text = program(compiled_step(tf.bfloat16), inputs(96, 128, tf.bfloat16), "hlo")
    products = re.findall(r"= (\w+)\[[\d,]*\]\S* dot\((\w+)\[[^%]*%\S+ (\w+)\[", text)
    assert products == [("f32", "bf16", "bf16")] * 3


def test_where_only_one_tower_is_half_float32_is_multiplied():
    loss = SampledSoftmax()

    @tf.function(jit_compile=True)
    def step(queries, candidates):
        return loss(queries, candidates)

    queries, candidates = inputs(16, 16)[:2]
    text = program(step, [tf.cast(queries, tf.bfloat16), candidates], "hlo")
    assert set(re.findall(r"dot\((\w+)\[", text)) == {"f32"}


@pytest.mark.parametrize("positive", ["all", "outside"])
@pytest.mark.parametrize("gap", [0.0, 30.0, 300.0])
def test_losses_of_scores_far_apart(gap, positive):
    """Where exp overflows or a probability underflows, and where the loss is tiny."""
    queries = tf.constant([[gap, 1.0], [1.0, -gap]], tf.float64)
    candidates = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], tf.float64)
    loss = SampledSoftmax(positive=positive, reduction="none")
    compiled = tf.function(loss, jit_compile=True)
    scores = queries.numpy() @ candidates.numpy().T
    own = scores[np.arange(2), np.arange(2)]
    if positive == "outside":
        scores[np.arange(2), np.arange(2)] = -np.inf
    expected = [
        np.logaddexp.reduce(row - positive)
        for row, positive in zip(scores, own, strict=True)
    ]
    found = compiled(queries, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "columns", "num_blocks"),
    [
        (1_024, 1_024, 1),
        (8_192, 8_192, 1),
        (32_768, 32_768, 16),  # 64 million scores a block
        (32_768, 65_536, 32),
        (131_072, 131_072, 128),  # 1,024 rows
    ],
)
def test_blocks_of_a_gpu(monkeypatch, rows, columns, num_blocks):
    found = []

    @tf.function(jit_compile=True)
    def traced(queries, candidates):
        found.append(block_sizes.partition_of(queries, candidates))
        return tf.zeros([])

    monkeypatch.setattr(block_sizes, "placed_on_gpu", lambda: True)
    traced.get_concrete_function(
        tf.TensorSpec([rows, WIDTH]), tf.TensorSpec([columns, WIDTH])
    )
    assert found[0].num_blocks == num_blocks and found[0].overlap is True


def test_a_row_block_is_kept_on_a_gpu(monkeypatch):
    monkeypatch.setattr(block_sizes, "placed_on_gpu", lambda: True)
    text = program(compiled_step(row_block=32), inputs(128, 128), "hlo")
    assert re.search(r"f32\[32,128\]\S* dot\(", text)


@pytest.mark.parametrize("seed", range(3))
def test_sorted_places_are_binary_searchs(seed):
    """Lists of keys are found by sorting under XLA, in memory that is linear."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(-3, 4, 20)
    mask = None if seed else rng.random(20) < 0.5
    entries = tf.constant(rng.integers(-5, 6, 30))

    def ranges(entries):
        columns = rules.SortedColumns(tf.constant(keys), 20, mask)
        return columns.ranges(entries)

    compiled = tf.function(ranges, jit_compile=True)
    for one, other in zip(compiled(entries), ranges(entries), strict=True):
        np.testing.assert_array_equal(one, other)
    assert largest_array(program(compiled, [entries])) < 2 * (20 + 30)
