"""What is timed: a training step of the loss, value and both gradients.

Each builder imports its library, takes a `Batch` and returns a function without
arguments that runs one step and returns the loss. All take sizes that are
unknown while tracing, as `model.fit` with a partial last batch does; with static
sizes TensorFlow folds TFRS's B x B constants at trace time, which flatters us.
"""

TEMPERATURE = 0.1


def _tensorflow_step(loss, **options):
    """Builder of a step from `loss(queries, candidates, ids, users, q)`."""
    import tensorflow as tf

    signature = [
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.float32),
    ]

    @tf.function(input_signature=signature, **options)
    def step(queries, candidates, ids, users, q):
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            value = loss(queries, candidates, ids, users, q)
        return value, tape.gradient(value, [queries, candidates])

    def build(batch):
        tensors = [tf.constant(array) for array in batch.arrays]
        return lambda: step(*tensors)[0].numpy()

    return build


def ours(**options):
    """`tfrs_negatives`: same-key mask, accidental hits, log Q."""
    from tfrs_negatives.tasks import Retrieval

    task = Retrieval(temperature=TEMPERATURE, remove_accidental_hits=True, **options)
    return _tensorflow_step(
        lambda queries, candidates, ids, users, q: task(
            queries,
            candidates,
            candidate_ids=ids,
            query_keys=users,
            candidate_sampling_probability=q,
        )
    )


def ours_compiled():
    """The same, its loss compiled by XLA."""
    return ours(jit_compile=True)


def ours_plain():
    """`tfrs_negatives` without masks and correction."""
    from tfrs_negatives.tasks import Retrieval

    task = Retrieval(temperature=TEMPERATURE)
    return _tensorflow_step(lambda queries, candidates, *_: task(queries, candidates))


def tfrs():
    """TFRS with the same corrections switched on."""
    import tensorflow as tf
    import tensorflow_recommenders

    task = tensorflow_recommenders.tasks.Retrieval(
        temperature=TEMPERATURE, remove_accidental_hits=True
    )

    def loss(queries, candidates, ids, users, q):
        rows, columns = tf.shape(queries)[0], tf.shape(candidates)[0]
        others = users[:, tf.newaxis] != users[tf.newaxis, :]
        others = tf.pad(others, [[0, 0], [0, columns - rows]], constant_values=True)
        positive = tf.range(rows)[:, tf.newaxis] == tf.range(columns)
        return task(
            queries,
            candidates,
            candidate_ids=ids,
            candidate_sampling_probability=q,
            score_mask=others | positive,
        )

    return _tensorflow_step(loss)


def tfrs_plain():
    """TFRS as most use it: no masks, no correction."""
    import tensorflow_recommenders

    task = tensorflow_recommenders.tasks.Retrieval(temperature=TEMPERATURE)
    return _tensorflow_step(lambda queries, candidates, *_: task(queries, candidates))


def floor():
    """Three bare matrix products and one softmax of the same shapes."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)] * 2)
    def step(queries, candidates):
        p = tf.nn.softmax(tf.matmul(queries, candidates, transpose_b=True))
        return tf.matmul(p, candidates), tf.matmul(p, queries, transpose_a=True)

    def build(batch):
        queries, candidates = tf.constant(batch.queries), tf.constant(batch.candidates)
        return lambda: step(queries, candidates)[0].numpy()

    return build


def keras_rs():
    """keras-rs's layers under Keras 3.

    Its `RemoveAccidentalHits` masks nothing (its constant is 1e-40) and there is no
    same-key mask, so it does less than the others.
    """
    import keras
    import keras_rs
    import tensorflow as tf

    hits = keras_rs.layers.RemoveAccidentalHits()
    correct = keras_rs.layers.SamplingProbabilityCorrection()
    cross_entropy = keras.losses.CategoricalCrossentropy(
        from_logits=True, reduction="sum"
    )

    def loss(queries, candidates, ids, users, q):
        scores = tf.matmul(queries, candidates, transpose_b=True) / TEMPERATURE
        labels = tf.eye(tf.shape(queries)[0], tf.shape(candidates)[0])
        scores = correct(scores, q)
        candidate_ids = tf.broadcast_to(ids, tf.shape(scores))
        return cross_entropy(labels, hits(scores, labels, candidate_ids))

    return _tensorflow_step(loss)


def _torch_step(compiled):
    import torch

    def loss(queries, candidates, ids, users, q):
        rows = queries.shape[0]
        scores = queries @ candidates.T / TEMPERATURE - torch.log(q)
        dropped = ids[:rows, None] == ids
        dropped[:, :rows] |= users[:, None] == users
        positives = torch.arange(rows)
        dropped[positives, positives] = False
        scores = scores.masked_fill(dropped, float("-inf"))
        return torch.nn.functional.cross_entropy(scores, positives, reduction="sum")

    if compiled:
        loss = torch.compile(loss, dynamic=True)

    def build(batch):
        queries, candidates, *others = map(torch.from_numpy, batch.arrays)
        queries.requires_grad_()
        candidates.requires_grad_()

        def step():
            queries.grad = candidates.grad = None
            value = loss(queries, candidates, *others)
            value.backward()
            return value.item()

        return step

    return build


def torch_eager():
    """PyTorch, written plainly, with the same corrections."""
    return _torch_step(compiled=False)


def torch_compiled():
    """The same under `torch.compile`."""
    return _torch_step(compiled=True)


SUBJECTS = {
    "ours": ours,
    "ours_compiled": ours_compiled,
    "ours_plain": ours_plain,
    "tfrs": tfrs,
    "tfrs_plain": tfrs_plain,
    "floor": floor,
    "keras_rs": keras_rs,
    "torch_eager": torch_eager,
    "torch_compiled": torch_compiled,
}
