"""Load over gRPC, as `predict.lua` is over REST; prints the same line of JSON."""

import asyncio
import json
import random
import sys
import time

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def request(user):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "retrieval"
    made.inputs["user"].CopyFrom(tf.make_tensor_proto([f"u{user}"]))
    made.inputs["k"].CopyFrom(tf.make_tensor_proto(10, tf.int32))
    return made


async def main(address, connections, seconds):
    # Made before: Python's client takes processor time from the server.
    random.seed(1)
    requests = [request(random.randrange(100_000)) for _ in range(1000)]
    times, failed = [], 0
    until = time.monotonic() + seconds

    async def ask(stub):
        nonlocal failed
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                await stub.Predict(random.choice(requests), timeout=30)
            except grpc.RpcError:
                failed += 1
            times.append(time.perf_counter() - start)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        start = time.monotonic()
        await asyncio.gather(*(ask(stub) for _ in range(connections)))
        took = time.monotonic() - start
    times.sort()
    found = {
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[len(times) * 99 // 100],
        "requests": len(times),
        "seconds": took,
        "failed": failed,
    }
    print("JSON", json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
