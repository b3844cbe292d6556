"""Several versions at once: pinned, with labels, and changed by a request."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from served_models import Client, expected, export

import grpc  # isort: skip
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.serving import Server, VersionPolicy
from tfrs_negatives.serving.model_versions import ModelVersions

SLOW = pytest.mark.slow(reason="loads several versions of a model")
GOOD = {"inputs": {"user": ["u3"], "shift": [[0.0]], "k": 5}}
# Version n has the candidates of this seed.
SEEDS = {1: 5, 2: 6, 3: 7}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions") / "m"
    for seed in SEEDS.values():
        export(folder, seed, versioned=True)
    return folder


class Ask:
    """Which version answers over both protocols."""

    def __init__(self, server):
        self.server, self.rest = server, Client(server.port)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.predict = stub.Predict
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def version(self, number=None, label=None):
        """Its number, the same of both; or None where both say that there is none."""
        self.rest.close()  # Silent while versions were loaded.
        path = "" if number is None else f"/versions/{number}"
        path = path if label is None else f"/labels/{label}"
        status, answer = self.rest.predict(GOOD, f"{path}:predict")
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "retrieval"
        if number is not None:
            request.model_spec.version.value = number
        if label is not None:
            request.model_spec.version_label = label
        for name, value in GOOD["inputs"].items():
            dtype = {"k": tf.int32, "shift": tf.float32}.get(name)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
        if status == 404:
            with pytest.raises(grpc.RpcError) as caught:
                self.predict(request, timeout=60)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            # As over gRPC: both give the same reason.
            assert caught.value.details() == answer["error"]
            return None
        assert status == 200, answer
        outputs = self.predict(request, timeout=60)
        ids = tf.make_ndarray(outputs.outputs["ids"]).astype(str).tolist()
        assert ids == answer["outputs"]["ids"]
        (found,) = [
            n for n, seed in SEEDS.items() if expected(seed, ["u3"], [0], 5)[0] == ids
        ]
        assert outputs.model_spec.version.value == found
        return found

    def reload(self, **config):
        request = model_management_pb2.ReloadConfigRequest()
        model = request.config.model_config_list.config.add(
            name=config.pop("name", "retrieval"),
            base_path=config.pop("base_path", ""),
        )
        model.version_labels.update(config.pop("labels", {}))
        policy = model.model_version_policy
        policy.specific.versions.extend(config.pop("specific", []))
        if "latest" in config:
            policy.latest.num_versions = config.pop("latest")
        if config.pop("all", False):
            policy.all.SetInParent()
        assert not config
        return self.models.HandleReloadConfigRequest(request, timeout=60)

    def close(self):
        self.rest.close()
        self.channel.close()


@pytest.fixture
def asked(root):
    """A function that starts a server of a policy."""
    started = []

    def start(policy=None, path=root, **options):
        server = Server(
            path, port=0, grpc_port=0, versions=policy, poll_seconds=60, **options
        )
        server.start()
        started.append(Ask(server))
        return started[-1]

    yield start
    for ask in started:
        ask.close()
        ask.server.stop()


@SLOW
def test_without_a_policy_the_highest_answers_alone(asked):
    ask = asked()
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [3, None, None, 3]
    assert ask.version(label="stable") is None


@SLOW
def test_a_version_that_is_pinned(asked):
    ask = asked(VersionPolicy(specific=[2]))
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [2, None, 2, None]


def test_several_at_once_and_labels(asked):
    ask = asked(VersionPolicy(latest=2, labels={"stable": 1, "canary": 3}))
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [3, 1, 2, 3]
    assert [ask.version(label=one) for one in ("stable", "canary", "x")] == [1, 3, None]
    status, answer = ask.rest.get("/v1/models/retrieval/labels/stable")
    assert status == 200
    assert [one["version"] for one in answer["model_version_status"]] == ["1"]
    _, answer = ask.rest.get("/v1/models/retrieval/labels/canary/metadata")
    assert answer["model_spec"]["version"] == "3"
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "retrieval"
    request.model_spec.version_label = "stable"
    states = ask.models.GetModelStatus(request, timeout=60).model_version_status
    assert [one.version for one in states] == [1]
    request.model_spec.ClearField("version_label")
    states = ask.models.GetModelStatus(request, timeout=60).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert {one.version: one.state for one in states} == dict.fromkeys(
        (1, 2, 3), available
    )


def test_a_rollback_is_a_request(asked):
    """Nothing is deleted, and a version that cannot be had changes nothing."""
    ask = asked(reloads=True)
    ask.reload(specific=[1])
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [1, 1, None, None]
    for wrong, message in [
        ({"specific": [9]}, "received 9; there are 1, 2, 3"),
        ({"specific": [1], "labels": {"stable": 8}}, "received 8"),
        ({"name": "other"}, "'retrieval' is served"),
        ({"base_path": "/etc"}, "`base_path` cannot be changed"),
        ({"specific": [-1]}, "Versions are numbers"),
        ({"specific": range(101)}, "may name 100 versions, received 101"),
        ({"labels": {"a/b": 1}}, "Labels are names"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            ask.reload(**wrong)
        assert message in caught.value.details(), caught.value
        assert str(ask.server.service.versions.path) not in caught.value.details()
        assert [ask.version(n) for n in (None, 1, 3)] == [1, 1, None]
    ask.reload(latest=2, labels={"stable": 1})
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [3, 1, 2, 3]
    assert ask.version(label="stable") == 1
    ask.reload(labels={"stable": 2})
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [3, None, 2, 3]
    ask.reload(all=True)
    assert [ask.version(n) for n in (None, 1, 2, 3)] == [3, 1, 2, 3]


@SLOW
def test_clients_change_nothing_unless_they_may(asked):
    ask = asked()
    with pytest.raises(grpc.RpcError) as caught:
        ask.reload(specific=[1])
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert ask.version() == 3


def number_of(versions):
    return sorted(versions.served)


@SLOW
def test_versions_that_come_and_go(root, tmp_path):
    """One with a label stays, whatever is higher, until it is deleted."""
    policy = VersionPolicy(latest=2, labels={"stable": 1})
    shutil.copytree(root / "1", tmp_path / "1")
    versions = ModelVersions(tmp_path, 4, policy)
    assert number_of(versions) == [1]
    for number, served in [(2, [1, 2]), (3, [1, 2, 3]), (4, [1, 3, 4])]:
        shutil.copytree(root / "3", tmp_path / str(number))
        assert versions.refresh() == [] and number_of(versions) == served
    assert versions.states()[2] == ("END", "")
    broken = tmp_path / "5"
    shutil.copytree(root / "3", broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    assert len(versions.refresh()) == 1 and number_of(versions) == [1, 3, 4]
    shutil.rmtree(tmp_path / "1")
    versions.refresh()
    assert number_of(versions) == [3, 4] and 1 not in versions.states()
    shutil.rmtree(tmp_path / "4")
    versions.refresh()
    assert number_of(versions) == [2, 3] and versions.current.number == 3
    versions.stop()


def test_versions_that_are_not_there(root):
    with pytest.raises(ValueError, match="received 4, 9; there are 1, 2, 3"):
        ModelVersions(root, 4, VersionPolicy(specific=[9], labels={"next": 4}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latest": 0}, "`latest` must be at least 1"),
        ({"specific": [-1]}, "numbers from 0"),
        ({"specific": [2**63]}, "numbers from 0"),
        ({"labels": {"": 1}}, "Labels are names"),
        ({"labels": {"a:b": 1}}, "Labels are names"),
        ({"labels": {"a" * 101: 1}}, "Labels are names"),
        ({"labels": {"a": -1}}, "numbers from 0"),
    ],
)
def test_policies_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        VersionPolicy(**options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--versions", "1", "--latest", "2"], "exclude each other"),
        (["--label", "stable"], "expected LABEL=N"),
        (["--label", "=3"], "expected LABEL=N"),
        (["--label", "a=³"], "expected LABEL=N"),
        (["--versions", "x"], "number of a version"),
        (["--tls-key", "k"], "go together"),
        (["--tls-client-ca", "c"], "needs --tls-certificate"),
        (["--versions", "9"], "there are 1, 2, 3"),
        (["--tls-key", "none", "--tls-certificate", "none"], "TLS needs a certificate"),
    ],
)
def test_flags(root, words, message):
    from tfrs_negatives.cli import arguments, serve_command

    ports = ["--port", "0", "--grpc-port", "0"]
    with pytest.raises(CommandError, match=message):
        serve_command.serve(arguments.parse(["serve", str(root), *ports, *words]))


@SLOW
def test_requests_of_different_versions_are_not_answered_together(root):
    """Nor does one wait for the other: each has its own candidates."""
    server = Server(
        root, port=0, grpc_port=0, versions=VersionPolicy(latest=3), poll_seconds=60
    )
    server.start()
    clients = [Client(server.port) for _ in range(9)]
    for place, client in enumerate(clients):
        path = f"/v1/models/retrieval/versions/{1 + place % 3}:predict"
        client._connection.request("POST", path, json.dumps(GOOD))
    for place, client in enumerate(clients):
        answer = json.loads(client._connection.getresponse().read())
        seed = SEEDS[1 + place % 3]
        ids, scores = expected(seed, ["u3"], [0], 5)
        assert answer["outputs"]["ids"] == ids
        np.testing.assert_allclose(answer["outputs"]["scores"], scores, rtol=1e-4)
        client.close()
    server.stop()
