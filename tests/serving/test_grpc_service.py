"""The gRPC protocol of TensorFlow Serving, with its own client stubs."""

import numpy as np
import pytest
import tensorflow as tf
from served_models import expected, export

import grpc  # isort: skip
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.serving import Limits, Server

USERS, SHIFTS = ["u3", "u7", "u99"], [0.5, -1.0, 0.0]


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    export(path, 1)
    limits = Limits(max_batch=16, max_request_bytes=20_000)
    server = Server(path, name="items", port=0, grpc_port=0, limits=limits)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel
    server.stop()


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request(signature="", name="items", version=None, **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = name, signature
    if version is not None:
        made.model_spec.version.value = version
    for key, value in inputs.items():
        made.inputs[key].CopyFrom(value)
    return made


def tensors(users=USERS, shifts=SHIFTS, k=None):
    made = {
        "user": tf.make_tensor_proto(users),
        "shift": tf.make_tensor_proto(np.float32(shifts)[:, None]),
    }
    return made if k is None else {**made, "k": tf.make_tensor_proto(k, tf.int32)}


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("k", [1, 40, None])
def test_predict(stub, k, version):
    """Without k it is that of the index, 10."""
    answer = stub.Predict(request(version=version, **tensors(k=k)), timeout=60)
    assert answer.model_spec.version.value == 1
    assert answer.model_spec.signature_name == "serving_default"
    found = {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}
    assert sorted(found) == ["ids", "raw_bytes", "scores", "title"]
    ids, scores = expected(1, USERS, SHIFTS, k or 10)
    assert [[i.decode() for i in row] for row in found["ids"]] == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-5)


def test_exclusions_and_filtered_outputs(stub):
    best = expected(1, USERS, SHIFTS, 1)[0]
    asked = request(
        "with_exclusions", exclusions=tf.make_tensor_proto(best), **tensors(k=4)
    )
    asked.output_filter.append("ids")
    answer = stub.Predict(asked, timeout=60)
    assert list(answer.outputs) == ["ids"]
    ids = expected(1, USERS, SHIFTS, 4, exclusions=best)[0]
    found = tf.make_ndarray(answer.outputs["ids"])
    assert [[i.decode() for i in row] for row in found] == ids


def test_metadata(stub):
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "items"
    asked.metadata_field.append("signature_def")
    answer = stub.GetModelMetadata(asked, timeout=60)
    assert answer.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    inputs = signatures.signature_def["with_exclusions"].inputs
    assert sorted(inputs) == ["exclusions", "k", "shift", "user"]
    assert inputs["user"].dtype == tf.string.as_datatype_enum
    asked.metadata_field.append("other")
    refused(stub.GetModelMetadata, asked, "INVALID_ARGUMENT", "must be signature_def")


def test_status(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "items"
    (state,) = stub.GetModelStatus(asked, timeout=60).model_version_status
    assert (state.version, state.state, state.status.error_code) == (1, 30, 0)
    asked.model_spec.version.value = 2
    refused(stub.GetModelStatus, asked, "NOT_FOUND", "has the versions 1")
    asked.model_spec.name = "others"
    refused(stub.GetModelStatus, asked, "NOT_FOUND", "'items' is served")


def refused(method, asked, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        method(asked, timeout=60)
    assert caught.value.code() == grpc.StatusCode[code]
    assert message in caught.value.details()


def proto(dtype=tf.int32, sizes=(), **values):
    made = tf.make_tensor_proto(0)
    made.Clear()
    made.dtype = dtype.as_datatype_enum if isinstance(dtype, tf.DType) else dtype
    for size in sizes:
        made.tensor_shape.dim.add(size=size)
    for name, value in values.items():
        if name == "tensor_content":
            made.tensor_content = value
        else:
            getattr(made, name).extend(value)
    return made


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"name": "other"}, "NOT_FOUND", "'items' is served"),
        # Clients take messages of 8 KiB.
        ({"name": "é" * 8000}, "NOT_FOUND", "'items' is served"),
        ({"é" * 8000: proto()}, "INVALID_ARGUMENT", "Expected the inputs k"),
        ({"version": 7}, "NOT_FOUND", "Version 1 of 'items' is served"),
        ({"signature": "x"}, "INVALID_ARGUMENT", "a signature out of embed_query"),
        ({"age": proto()}, "INVALID_ARGUMENT", "received age, k"),
        ({"k": proto(tf.int64)}, "INVALID_ARGUMENT", "'k' must be int32, received int"),
        ({"k": proto(999)}, "INVALID_ARGUMENT", "received dtype 999"),
        ({"k": proto(int_val=[0])}, "INVALID_ARGUMENT", "k must be from 1"),
        ({"k": proto(int_val=[41])}, "INVALID_ARGUMENT", "40, received 41"),
        (
            {"k": proto(sizes=[1], int_val=[3])},
            "INVALID_ARGUMENT",
            "must have shape ()",
        ),
        ({"k": proto(sizes=[-2], int_val=[3])}, "RESOURCE_EXHAUSTED", "shape [-2]"),
        # 4 TB of one value.
        (
            {"k": proto(sizes=[2**40], int_val=[3])},
            "RESOURCE_EXHAUSTED",
            "at most 20000 values",
        ),
        (
            {"k": proto(sizes=[2**40] * 9, int_val=[3])},
            "RESOURCE_EXHAUSTED",
            "at most 20000 values",
        ),
        (
            {"shift": proto(tf.float32, [3, 1], tensor_content=b"x")},
            "INVALID_ARGUMENT",
            "'shift' is no tensor",
        ),
        ({"user": tf.make_tensor_proto(["u1"])}, "INVALID_ARGUMENT", "number of rows"),
        (tensors(["u1"] * 17, [0] * 17), "RESOURCE_EXHAUSTED", "16 rows, received 17"),
        (tensors(["u?"], [0]), "INVALID_ARGUMENT", "could not correctly convert"),
    ],
)
def test_malformed_requests(stub, changes, code, message):
    asked = request(**{**tensors(k=3), **changes})
    refused(stub.Predict, asked, code, message)
    assert stub.Predict(request(**tensors(k=3)), timeout=60).outputs["ids"].dtype


def test_inputs_that_are_not_asked_for_are_not_unpacked(stub, monkeypatch):
    """A short message can stand for gigabytes."""
    unpacked = []
    monkeypatch.setattr(tf, "make_ndarray", unpacked.append)
    one = proto(tf.float64, [20_000], double_val=[1.0])
    asked = request(**tensors(k=3), **{f"more{n}": one for n in range(50)})
    refused(stub.Predict, asked, "INVALID_ARGUMENT", "Expected the inputs k, shift")
    assert unpacked == []


@pytest.mark.parametrize(
    "method",
    [
        "PredictionService/Predict",
        "PredictionService/GetModelMetadata",
        "ModelService/GetModelStatus",
    ],
)
def test_what_is_no_message(channel, caplog, method):
    """As gRPC's other servers say it, and with nothing in the log."""
    send = channel.unary_unary(f"/tensorflow.serving.{method}")
    for garbage in (b"\xff\xff\xff", b"\x0a\xff", b"\x0a\x05ab"):
        refused(send, garbage, "INTERNAL", "received bytes that are none")
    assert "Traceback" not in caplog.text


def test_what_fails_inside_is_not_told(stub, monkeypatch, caplog):
    from tfrs_negatives.serving.service import Service

    async def broken(*_):
        raise RuntimeError("a defect in /secret/folder")

    monkeypatch.setattr(Service, "predict", broken)
    refused(stub.Predict, request(**tensors(k=3)), "INTERNAL", "internal error")
    assert "a defect" in caplog.text


def test_values_that_are_refused_and_no_text(stub, caplog):
    """The model's reason repeats them, and would be no text either."""
    asked = request(**tensors([b"u\xaa"] * 3, [0] * 3, k=3))
    refused(stub.Predict, asked, "INVALID_ARGUMENT", "bytes that are no UTF-8")
    assert "Traceback" not in caplog.text and not caplog.records


def test_other_refusals(stub, channel):
    asked = request(**tensors(k=3))
    asked.output_filter.append("age")
    refused(stub.Predict, asked, "INVALID_ARGUMENT", "`output_filter` may name ids")
    asked = request(**tensors(k=3))
    asked.model_spec.version_label = "stable"
    refused(stub.Predict, asked, "NOT_FOUND", "(none), received 'stable'")
    asked = request(**tensors([("u1" * 9000)] * 3, [0] * 3, k=3))
    refused(stub.Predict, asked, "RESOURCE_EXHAUSTED", "larger than max")
    send = channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
    with pytest.raises(grpc.RpcError) as caught:
        send(b"", timeout=60)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert stub.Predict(request(**tensors(k=3)), timeout=60).outputs["ids"].dtype
