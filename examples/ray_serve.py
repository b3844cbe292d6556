"""An exported model on many hosts: replicas of the server, behind Ray Serve.

On a cluster (`ray start --head` on one host, `ray start --address=...` on the others):

    pip install tfrs_negatives[serve,scann] "ray[serve]"
    python examples/ray_serve.py /shared/models/retrieval --replicas 8

Every replica loads the model from a folder that all hosts see, batches its own
requests, and takes up new versions by itself. Clients speak TensorFlow Serving's REST
protocol to port 8501 of any host; Ray Serve spreads the requests. Without a cluster,
replicas are processes of this machine.
"""

import argparse
import os
import time

from ray import serve


def application(path, name, replicas, processors, max_ongoing):
    """A Ray Serve application of several replicas."""

    def build():
        # In the replica: what is loaded stays there.
        from tfrs_negatives.serving import Limits, Service, rest_app

        threads = max(1, int(processors))
        service = Service(path, name, Limits(threads=threads))
        service.versions.watch(seconds=2.0)
        return rest_app(service)

    deployment = serve.deployment(
        serve.ingress(build)(),
        name=name,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": processors},
        # Requests beyond one at a time are what a batch is made of.
        max_ongoing_requests=max_ongoing,
    )
    return deployment.bind()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an export, or a folder of versions")
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
        ),
        route_prefix="/",
    )
    print(f"Serving {arguments.model} with {arguments.replicas} replicas", flush=True)
    try:
        while True:
            time.sleep(60)
    finally:
        serve.shutdown()
