"""`tfrs-negatives query`: asks an exported model.

Loads the SavedModel alone, without Keras, to start fast.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import uuid
from typing import TYPE_CHECKING, Any

from tfrs_negatives import _exports
from tfrs_negatives.cli.answer_lines import answer_lines
from tfrs_negatives.cli.command_error import CommandError, told_in_one_line

if TYPE_CHECKING:
    from tfrs_negatives._saved_retrieval import SavedRetrieval


def query(options: argparse.Namespace) -> None:
    """Runs the command.

    Args:
      options: Namespace from `arguments.parse`.

    Raises:
      CommandError: No model there, ids that are none of its, k too large, a discount
        for a model without popularity, a filter for one without attributes or that is
        none, a history for one without histories; neither user nor history.
    """
    if options.user is None and not options.history:
        raise CommandError(
            "Expected --user or --history, received neither. Name a user, or what "
            "somebody did."
        )
    path = find_model(options.model)
    with told_in_one_line():
        description = _exports.read_description(path)
    if _exports.is_tower(description):
        raise CommandError(
            f"Expected a model with its items, received {path!r}, whose items are in "
            "shards. Serve it by `tfrs-negatives serve --shard`, and ask the server."
        )
    user_dtype = _user_dtype(description, path)
    stranger = _stranger(user_dtype)
    user = stranger
    if options.user is not None:
        user = _parse("--user", options.user, user_dtype)
    exclude, history = (
        [_parse(option, item, description["ids"]) for item in items]
        for option, items in (
            ("--exclude", options.exclude),
            ("--history", options.history),
        )
    )
    # The number of items that change is not known before they are loaded.
    if options.k > description["candidates"] and not _exports.is_live(description):
        raise CommandError(
            f"--k must be at most {description['candidates']}, the number of items in "
            f"{path!r}, received {options.k}. Ask for fewer."
        )

    given: dict[str, Any] = _options(options, description, path)

    import tensorflow as tf

    from tfrs_negatives._saved_retrieval import load_retrieval

    with told_in_one_line():
        model = load_retrieval(path)
    if history:
        given["history"] = tf.constant([history], description["ids"])
    elif _is_unknown(model, user, stranger, user_dtype):
        print(
            f"note: user {options.user} was not in the training data; these are the "
            "items for an average user",
            file=sys.stderr,
        )
    inputs = {
        "user": tf.constant([user], user_dtype),
        "k": tf.constant(options.k, tf.int32),
        **given,
    }
    name = "serving_default"
    if exclude:
        name = "with_exclusions"
        inputs["exclusions"] = tf.constant([exclude], description["ids"])
    # A filter may be none, which the index finds.
    with told_in_one_line() if options.where else contextlib.nullcontext():
        found = model.signatures[name](**inputs)
    answer = {key: value.numpy()[0].tolist() for key, value in found.items()}
    unit = "dot product"
    if options.popularity_discount:
        unit += ", less the discount"
    print("\n".join(answer_lines(answer, score=f"score ({unit})")))


def find_model(path: str) -> str:
    """The export in what `train` wrote, or at `path`; of versions the highest.

    Raises:
      CommandError: There is none that `export_retrieval` wrote.
    """
    versions = _exports.find_versions(find_served(path))
    return versions[max(versions)]


def find_served(path: str) -> str:
    """`path`, or the folder in it where `train` put the export.

    Raises:
      CommandError: There is none that `export_retrieval` wrote.
    """
    for folder in (os.path.join(path, "model"), path):
        if _exports.find_versions(folder):
            return folder
    raise CommandError(
        f"Expected the output of `tfrs-negatives train`, its folder model/, or a "
        f"folder of versions of it, received {path!r}, which holds no exported model. "
        "Train one, or name its folder."
    )


def _user_dtype(description: dict[str, Any], path: str) -> str:
    if set(description["query"]) not in ({"user"}, {"user", "history"}):
        raise CommandError(
            f"Expected a model of users' ids, received {path!r}, whose queries are "
            f"{', '.join(description['query'])}. Call its signatures from Python."
        )
    return description["query"]["user"]["dtype"]


def _options(
    options: argparse.Namespace, description: dict[str, Any], path: str
) -> dict[str, float | bool | str]:
    """The inputs that only some exports have, as far as they are given."""
    known = description.get("options", {})
    given: dict[str, float | bool | str] = {}
    if options.popularity_discount is not None:
        if "popularity_discount" not in known:
            raise CommandError(
                f"--popularity-discount needs a model with its items' popularity, "
                f"received {path!r}, exported without. Leave it out, or export with "
                "`popularity=`."
            )
        given["popularity_discount"] = options.popularity_discount
    if options.history and "history" not in description["query"]:
        raise CommandError(
            f"--history needs a model whose queries have histories, received {path!r}, "
            "which knows users by their ids alone. Train with times, or --history N."
        )
    if options.where is not None:
        if "where" not in known:
            raise CommandError(
                "--where needs a model whose items have attributes, received "
                f"{path!r}, exported without. Train with --live, or export by "
                "`export_live_retrieval`."
            )
        given["where"] = options.where
    # Without histories nothing is left out anyway.
    if options.keep_history and "exclude_history" in known:
        given["exclude_history"] = False
    return given


def _parse(option: str, text: str, dtype: str) -> int | str:
    if dtype == "string":
        return text
    try:
        value = int(text)
        if abs(value) < 2**63:
            return value
    except ValueError:
        pass
    raise CommandError(
        f"{option} must be a whole number, as the ids in this model are, received "
        f"{text!r}. Pass one of them."
    )


def _stranger(dtype: str) -> int | str:
    """An id that no data set has: a random one."""
    return uuid.uuid4().hex if dtype == "string" else uuid.uuid4().int % 2**62


def _is_unknown(
    model: SavedRetrieval, user: int | str, stranger: int | str, dtype: str
) -> bool:
    """Whether a user gets the embedding that every unknown id gets."""
    import numpy as np
    import tensorflow as tf

    ids = tf.constant([user, stranger], dtype)
    embeddings = model.signatures["embed_query"](user=ids)["embeddings"].numpy()
    return np.array_equal(embeddings[0], embeddings[1])
