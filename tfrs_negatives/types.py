"""Names of the types that signatures share.

Modules that use them begin with `from __future__ import annotations`, so that `help`
shows these names and not what they stand for.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

# Names of TensorFlow's are in quotes, as commands start without it, and serving runs
# without Keras.
if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

# mypy takes it for True. To mypy, TensorFlow's classes are Any: a union with them would
# check nothing, and yet complain where an optional argument was made a tensor.
MYPY = False

#: What `tf.convert_to_tensor` takes.
if MYPY:
    TensorLike: TypeAlias = Any
else:
    TensorLike: TypeAlias = (
        "tf.Tensor | tf.Variable | np.ndarray | np.generic | float | str "
        "| Sequence[Any]"
    )

#: A list for each row: ragged where lists differ in length.
ListsLike: TypeAlias = "TensorLike | tf.RaggedTensor"

#: Vectors by name, or one vector without a name.
NamedLike: TypeAlias = "TensorLike | Mapping[str, TensorLike]"

#: Columns by name: a dict of arrays, a data frame, an Arrow table, `data.Interactions`.
TableLike: TypeAlias = Any

#: How often each id occurs: a vector, a mapping or a Series from id to count, a pair of
#: ids and counts, or a dataset of ids.
if MYPY:
    CountsLike: TypeAlias = Any
else:
    CountsLike: TypeAlias = "TensorLike | Mapping[Any, float] | tf.data.Dataset"

#: The items of a corpus, one row an item: features by name, one feature, or a dataset.
if MYPY:
    CorpusLike: TypeAlias = Any
else:
    CorpusLike: TypeAlias = "TensorLike | Mapping[str, TensorLike] | tf.data.Dataset"

#: A number, or a scalar that may change or be trained.
ScalarLike: TypeAlias = "float | np.number | tf.Tensor | tf.Variable"

#: An element of a dataset: tensors by name.
Features: TypeAlias = dict[str, Any]

#: Where log q of ids comes from: a layer, or a number where all are alike.
LogQSource: TypeAlias = "KerasLayer | float"

KerasLayer: TypeAlias = "tf.keras.layers.Layer"
KerasMetric: TypeAlias = "tf.keras.metrics.Metric"
KerasLoss: TypeAlias = "tf.keras.losses.Loss"
KerasSchedule: TypeAlias = "tf.keras.optimizers.schedules.LearningRateSchedule"
KerasModel: TypeAlias = "tf.keras.Model"

#: A model, or any function from features of a batch to embeddings [B, d].
Tower: TypeAlias = "Callable[..., tf.Tensor]"

#: What `get_config` returns and `from_config` takes.
Config: TypeAlias = dict[str, Any]

#: Where a file or folder is.
PathLike: TypeAlias = str | os.PathLike[str]
