"""An exported model on many hosts: replicas of the server, behind Ray Serve.

On a cluster (`ray start --head` on one host, `ray start --address=...` on the others):

    pip install tfrs_negatives[serve,scann] "ray[serve]"
    python examples/ray_serve.py /shared/models/retrieval --replicas 8

A query tower and its shards (docs/shards.md), each shard with as many replicas:

    python examples/ray_serve.py /shared/models/front --shard /shared/models/shard-0 \\
        --shard /shared/models/shard-1 --replicas 2

Every replica loads the model from a folder that all hosts see, batches its own
requests, and takes up new versions by itself. Clients speak TensorFlow Serving's REST
protocol to port 8501 of any host; Ray Serve spreads the requests. Without a cluster,
replicas are processes of this machine.
"""

import argparse
import os
import time

from ray import serve


def application(path, name, replicas, processors, max_ongoing, shards=()):
    """A Ray Serve application of several replicas, and of each shard as many."""
    options = {
        "num_replicas": replicas,
        "ray_actor_options": {"num_cpus": processors},
        # Requests beyond one at a time are what a batch is made of.
        "max_ongoing_requests": max_ongoing,
    }
    bound = [
        serve.deployment(ShardReplica, name=f"shard-{n}", **options).bind(shard)
        for n, shard in enumerate(shards)
    ]

    def build():
        # In the replica: what is loaded stays there.
        from tfrs_negatives.serving import Limits, Service, rest_app

        threads = max(1, int(processors))
        named = [
            HandleShard(f"shard-{n}", serve.get_deployment_handle(f"shard-{n}", name))
            for n in range(len(shards))
        ]
        service = Service(path, name, Limits(threads=threads), shards=named)
        service.watch(seconds=2.0)
        return rest_app(service)

    front = serve.ingress(build)(type("Front", (), {"__init__": lambda *_: None}))
    return serve.deployment(front, name=name, **options).bind(*bound)


class ShardReplica:
    """A shard in a process of its own."""

    def __init__(self, path):
        from tfrs_negatives.index import load_retrieval
        from tfrs_negatives.index.shards.local_shard import LocalShard

        self._shard = LocalShard(load_retrieval(path))

    def describe(self, name):
        return self._shard.open(name).describe(0)

    def ask(self, signature, inputs):
        return self._shard.ask(signature, inputs, 0)


class HandleShard:
    """A shard behind a handle of Ray Serve, which chooses among its replicas.

    Args:
      name: What messages call it.
      handle: The handle.
    """

    def __init__(self, name, handle):
        self.name, self._handle = name, handle
        self._input = None

    def open(self, name):
        opened = HandleShard(self.name, self._handle)
        opened._input = name
        return opened

    def describe(self, seconds):
        return _result(self._handle.describe.remote(self._input), seconds)

    def ask(self, signature, inputs, seconds):
        return _result(self._handle.ask.remote(signature, inputs), seconds)

    def close(self):
        pass


def _result(response, seconds):
    from tfrs_negatives.index.shards.shard import ShardError

    try:
        return response.result(timeout_s=seconds)
    except (OSError, ShardError, ValueError):
        raise
    except Exception as error:  # Ray's own: the replica is gone, for instance.
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an export, or a folder of versions")
    parser.add_argument(
        "--shard", action="append", default=[], help="a shard of MODEL, a query tower"
    )
    parser.add_argument("--name", default="retrieval")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--processors", type=float, default=1, help="of a replica")
    parser.add_argument("--max-ongoing", type=int, default=256, help="of a replica")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    arguments = parser.parse_args()
    serve.start(
        http_options={"host": arguments.host, "port": arguments.port},
        proxy_location="EveryNode",
    )
    serve.run(
        application(
            os.path.abspath(arguments.model),
            arguments.name,
            arguments.replicas,
            arguments.processors,
            arguments.max_ongoing,
            [os.path.abspath(shard) for shard in arguments.shard],
        ),
        name=arguments.name,
        route_prefix="/",
    )
    print(f"Serving {arguments.model} with {arguments.replicas} replicas", flush=True)
    try:
        while True:
            time.sleep(60)
    finally:
        serve.shutdown()
