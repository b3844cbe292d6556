"""What TensorFlow Serving's own example clients send, and read from the answers.

Their requests are those of its documentation and of `tensorflow_serving/example`
(`resnet_client.py`, `resnet_client_grpc.py`, `mnist_client.py`); model, inputs and
outputs are renamed, and nothing else.
"""

import base64
import json
import threading
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from served_models import WIDTH, normal

import grpc  # isort: skip
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.index import BruteForce, export_retrieval
from tfrs_negatives.serving import Server

NUM, K = 30, 10


class Users(tf.Module):
    """An embedding for each user, a number as a string."""

    def __init__(self):
        super().__init__()
        self.users = tf.Variable(normal(0, 100, WIDTH))

    def __call__(self, users):
        return tf.gather(self.users, tf.strings.to_number(users, tf.int32))


def best(users):
    """Ids and scores, by NumPy."""
    scores = normal(0, 100, WIDTH)[users] @ normal(1, NUM, WIDTH).T
    order = np.argsort(-scores, axis=1)[:, :K]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = export_retrieval(
        tmp_path_factory.mktemp("served") / "retrieval",
        Users(),
        BruteForce().index(normal(1, NUM, WIDTH), np.arange(NUM)),
        query_signature=tf.TensorSpec([None], tf.string, name="user"),
    )
    server = Server(path, port=0, grpc_port=0)
    server.start()
    yield server
    server.stop()


def post(server, body):
    """As `curl -d BODY -X POST`."""
    url = f"http://localhost:{server.port}/v1/models/retrieval:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode())) as answer:
        return json.loads(answer.read())


def get(server, path):
    with urllib.request.urlopen(f"http://localhost:{server.port}{path}") as answer:
        return json.loads(answer.read())


def check(predictions, users):
    ids, scores = best(users)
    assert [row["ids"] for row in predictions] == ids.tolist()
    np.testing.assert_allclose(
        [row["scores"] for row in predictions], scores, rtol=1e-4
    )


def test_instances_of_the_readme(server):
    """`curl -d '{"instances": [1.0, 2.0, 5.0]}'`."""
    answer = post(server, '{"instances": ["1", "2", "5"]}')
    check(answer["predictions"], [1, 2, 5])


def test_the_rest_client_of_an_image_model(server):
    """`'{"instances" : [{"b64": "%s"}]}' % jpeg_bytes.decode('utf-8')`."""
    encoded = base64.b64encode(b"7")
    body = '{"instances" : [{"b64": "' + encoded.decode("utf-8") + '"}]}'
    check([post(server, body)["predictions"][0]], [7])


def test_rows_and_columns_of_the_rest_documentation(server):
    body = '{"signature_name": "", "instances": [{"user": "3"}, {"user": "4"}]}'
    check(post(server, body)["predictions"], [3, 4])
    body = '{"signature_name": "serving_default", "inputs": {"user": ["3"], "k": 2}}'
    outputs = post(server, body)["outputs"]
    assert outputs["ids"] == best([3])[0][:, :2].tolist()
    body = '{"signature_name": "embed_query", "inputs": ["3", "4"]}'
    expected = normal(0, 100, WIDTH)[[3, 4]]
    np.testing.assert_allclose(post(server, body)["outputs"], expected, rtol=1e-6)


def test_status_and_metadata_of_the_rest_documentation(server):
    state = get(server, "/v1/models/retrieval")["model_version_status"]
    status = {"error_code": "OK", "error_message": ""}
    assert state == [{"version": "1", "state": "AVAILABLE", "status": status}]
    answer = get(server, "/v1/models/retrieval/metadata")
    assert set(answer) == {"model_spec", "metadata"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    inputs = signatures["serving_default"]["inputs"]
    # As the documentation prints it, names and what is unknown included.
    assert inputs["user"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert inputs["k"]["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert inputs["k"]["dtype"] == "DT_INT32"
    # And it is what its clients parse.
    parsed = get_model_metadata_pb2.SignatureDefMap()
    json_format.ParseDict(answer["metadata"]["signature_def"], parsed)
    assert parsed.signature_def["embed_query"].outputs


def test_the_grpc_client_of_an_image_model(server):
    """`resnet_client_grpc.py`, which reads `float_val`."""
    channel = grpc.insecure_channel(f"localhost:{server.grpc_port}")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "retrieval"
    request.model_spec.signature_name = "serving_default"
    data = np.array([b"8"], object)
    request.inputs["user"].CopyFrom(tf.make_tensor_proto(data, shape=data.shape))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto(K))
    result = stub.Predict(request, 10.0)  # 10 secs timeout
    ids, scores = best([8])
    found = result.outputs["scores"].float_val
    np.testing.assert_allclose(np.array(found), scores[0], rtol=1e-4)
    ids_found = result.outputs["ids"]
    assert list(ids_found.int64_val or ids_found.int_val) == ids[0].tolist()
    np.testing.assert_array_equal(tf.make_ndarray(ids_found), ids)
    channel.close()


def test_the_grpc_client_of_digits(server):
    """`mnist_client.py`: futures and a callback, a few at a time."""
    channel = grpc.insecure_channel(f"localhost:{server.grpc_port}")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    found, done = {}, threading.Semaphore(0)

    def callback(user):
        def note(result_future):
            assert result_future.exception() is None
            response = np.array(result_future.result().outputs["scores"].float_val)
            found[user] = response
            done.release()

        return note

    for user in range(20):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "retrieval"
        request.model_spec.signature_name = "serving_default"
        request.inputs["user"].CopyFrom(tf.make_tensor_proto([str(user)], shape=[1]))
        result_future = stub.Predict.future(request, 5.0)  # 5 seconds
        result_future.add_done_callback(callback(user))
    for _ in range(20):
        assert done.acquire(timeout=10)
    for user, scores in found.items():
        np.testing.assert_allclose(scores, best([user])[1][0], rtol=1e-4)
    channel.close()


def test_status_and_metadata_over_grpc(server):
    channel = grpc.insecure_channel(f"localhost:{server.grpc_port}")
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "retrieval"
    result = stub.GetModelStatus(request, 5)
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [s.state for s in result.model_version_status] == [available]
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "retrieval"
    request.metadata_field.append("signature_def")
    result = stub.GetModelMetadata(request, 5)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    result.metadata["signature_def"].Unpack(signatures)
    assert "serving_default" in signatures.signature_def
    channel.close()
