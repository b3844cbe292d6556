"""A loaded query tower, and the shards that its items are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfrs_negatives._saved_retrieval import SavedRetrieval, SavedSignature
from tfrs_negatives._sharded_signature import ShardedSignature
from tfrs_negatives.index.shards.local_shard import LocalShard
from tfrs_negatives.index.shards.shard import Shard, embeddings_input
from tfrs_negatives.index.shards.shard_search import ShardSearch


class SavedShardedRetrieval(SavedRetrieval):
    """What `export_query_tower` wrote, loaded with its shards by `load_retrieval`.

    Attributes:
      path, description, signatures: As those of `SavedRetrieval`. "serving_default" and
        "with_exclusions" take the options that the shards have, and return
        `missing_shards` int64 `[B, M]` too: numbers of the M shards that the answer
        lacks, in the order of `shards` and from 0; M is 0 where it is whole.
      search: The `ShardSearch`.
    """

    def __init__(
        self,
        path: str,
        description: dict[str, Any],
        model: Any,
        shards: Sequence[Any],
        seconds: float,
    ) -> None:
        self.path, self.description, self._model = path, description, model
        name = embeddings_input(description["model_id"])
        self.search = ShardSearch([_shard(each) for each in shards], name, seconds)
        try:
            self._check_ids()
        except BaseException:
            self.search.close()
            raise
        functions = dict(model.signatures)

        def sharded(takes_exclusions: bool) -> ShardedSignature:
            return ShardedSignature(
                functions, self.search, name, description, takes_exclusions
            )

        self.signatures = {
            "serving_default": sharded(False),
            "with_exclusions": sharded(True),
            "embed_query": SavedSignature(functions["embed_query"], description),
        }

    def __repr__(self) -> str:
        return (
            f"SavedShardedRetrieval(path={self.path!r}, "
            f"num_shards={self.search.num_shards}, "
            f"default_k={self.description['k']})"
        )

    def release(self) -> None:
        """Lets go of the shards: nothing can be asked any more."""
        self.search.close()

    def _check_ids(self) -> None:
        own = self.description.get("history_ids")
        its, _ = self.search.description.outputs["ids"]
        if own not in (None, its):
            raise ValueError(
                f"The histories of {self.path!r} have ids that are {own}, and its "
                f"shards have {its}, so nothing would be left out. Export them with "
                "the same ids."
            )


def _shard(given: Any) -> Shard:
    if isinstance(given, SavedRetrieval):
        return LocalShard(given)
    if isinstance(given, str):
        from tfrs_negatives import serving

        return serving.RemoteShard(given)
    return given
