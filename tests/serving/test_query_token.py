"""A server that answers those alone who name a token, over both protocols."""

import json

import pytest
import tensorflow as tf
from served_models import expected, export

import grpc  # isort: skip
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.serving import AdminToken, QueryToken, Server, Service

QUERY, ADMIN = "a-token-of-askers-0123", "a-token-of-admins-0123"
INPUTS = {"user": ["u3"], "shift": [[0.0]], "k": 5}
WRONG = {
    "none": None,
    "no token": "Bearer",
    "another scheme": f"Basic {QUERY}",
    "a part": f"Bearer {QUERY[:-1]}",
    "the admin's": f"Bearer {ADMIN}",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("served") / "m", 5)


@pytest.fixture(scope="module")
def server(path):
    tokens = {"admin_token": AdminToken(ADMIN), "query_token": QueryToken(QUERY)}
    server = Server(path, port=0, grpc_port=0, reloads=True, **tokens)
    server.start()
    yield server
    server.stop()


class Grpc:
    """A client with what it puts into `authorization`."""

    def __init__(self, channel, field):
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        fields = [("authorization", field)] if field else []
        self._options = {"metadata": fields, "timeout": 60}

    def predict(self):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "retrieval"
        for name, value in INPUTS.items():
            dtype = {"k": tf.int32, "shift": tf.float32}.get(name)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
        return self.predictions.Predict(request, **self._options).outputs["ids"]

    def metadata(self):
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "retrieval"
        request.metadata_field.append("signature_def")
        return self.predictions.GetModelMetadata(request, **self._options)

    def reload(self):
        request = model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.config.add(name="retrieval")
        return self.models.HandleReloadConfigRequest(request, **self._options)

    def status(self):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "retrieval"
        return self.models.GetModelStatus(request, **self._options)

    def is_healthy(self):
        answer = self.health.Check(health_pb2.HealthCheckRequest(), **self._options)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def asker(server):
    """A function from a field to a client."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield lambda field: Grpc(channel, field)


def is_refused(ask):
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    details = caught.value.details()
    assert QUERY not in details and ADMIN not in details
    assert "Authorization: Bearer TOKEN" in details
    return caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def asked(client, field, method, path, body=None):
    headers = {"Authorization": field} if field else {}
    return client.ask(method, path, body, headers)


GUARDED = [
    ("POST", "/v1/models/retrieval:predict", json.dumps({"inputs": INPUTS})),
    ("POST", "/v1/models/retrieval/versions/1:predict", b"{"),
    # Nor is told which models and versions there are.
    ("POST", "/v1/models/another:predict", b"{"),
    ("GET", "/v1/models/retrieval/versions/9/metadata", None),
    ("GET", "/v1/models/retrieval/metadata", None),
]
OPEN = ["/v1/models/retrieval", "/healthz/ready", "/healthz/live"]


@pytest.mark.parametrize("name", WRONG)
def test_who_may_not_ask_by_rest(server, client, name):
    for method, path, body in GUARDED:
        status, answer = asked(client, WRONG[name], method, path, body)
        assert status == 401 and list(answer) == ["error"]
        assert "with the query token" in answer["error"]
        assert QUERY not in answer["error"]
    # Probes ask these.
    for path in OPEN:
        assert asked(client, WRONG[name], "GET", path)[0] == 200


@pytest.mark.parametrize("name", WRONG)
def test_who_may_not_ask_by_grpc(asker, name):
    client = asker(WRONG[name])
    assert is_refused(client.predict) and is_refused(client.metadata)
    assert client.is_healthy() and client.status().model_version_status[0].version == 1


def test_who_may_ask(client, asker):
    ids, field = expected(5, ["u3"], [0.0], 5)[0], f"Bearer {QUERY}"
    (method, path, body), metadata = GUARDED[0], GUARDED[-1]
    status, answer = asked(client, field, method, path, body)
    assert status == 200 and answer["outputs"]["ids"] == ids
    assert asked(client, field, *metadata)[0] == 200
    assert tf.make_ndarray(asker(field).predict()).astype(str).tolist() == ids
    assert "signature_def" in asker(field).metadata().metadata


def test_each_token_is_for_its_own(client, asker):
    path, body = "/v1/models/retrieval:delete", b'{"ids": []}'
    for field in (None, f"Bearer {QUERY}"):
        status, answer = asked(client, field, "POST", path, body)
        assert status == 401 and "with the admin token" in answer["error"]
        assert is_refused(asker(field).reload)
    status, answer = asked(client, f"Bearer {ADMIN}", "POST", path, body)
    assert status == 400 and "export_live_retrieval" in answer["error"]
    asker(f"Bearer {ADMIN}").reload()


@pytest.mark.slow(reason="starts another server")
def test_without_an_admin_who_may_ask_may_reload(path):
    token = QueryToken(QUERY)
    server = Server(path, port=0, grpc_port=0, reloads=True, query_token=token)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        assert is_refused(Grpc(channel, None).reload)
        Grpc(channel, f"Bearer {QUERY}").reload()
    server.stop()


def test_two_tokens_that_are_the_same(path):
    with pytest.raises(ValueError, match="are the same"):
        Service(path, admin_token=AdminToken(QUERY), query_token=QueryToken(QUERY))


def test_where_the_token_comes_from(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(f"{QUERY}\n")
    monkeypatch.setenv("SOME_TOKEN", QUERY)
    for token in (
        QueryToken.from_file(tmp_path / "token"),
        QueryToken.from_environment("SOME_TOKEN"),
    ):
        token.check([f"Bearer {QUERY}"])
        assert isinstance(token, QueryToken) and QUERY not in repr(token)
    with pytest.raises(ValueError, match="The query token must have"):
        QueryToken("short")
    with pytest.raises(ValueError, match="the query token"):
        QueryToken.from_file(tmp_path / "absent")
