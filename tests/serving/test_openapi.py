"""What the server says of its signatures, against what it takes and answers."""

import html.parser
import http.client

import numpy as np
import pytest
from served_models import SIGNATURE, Client, Tower, normal

from tfrs_negatives.index import BruteForce, export_retrieval
from tfrs_negatives.serving import AdminToken, QueryToken, Server
from tfrs_negatives.serving.signature_page import signature_page

TOKEN = "a-token-of-askers-0123"
USERS = {"user": ["u3", "u7"], "shift": [[0.5], [-1.0]]}
ROW = {"user": "u3", "shift": [0.5]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A model with outputs of every kind."""
    path = tmp_path_factory.mktemp("served") / "m"
    payload = {
        "title": ["é"] * 40,
        "raw_bytes": [b"\xff"] * 40,
        "year": np.arange(40),
        "new": np.arange(40) > 20,
    }
    index = BruteForce(k=4).index(normal(1, 40, 8), [f"i{n}" for n in range(40)])
    export_retrieval(
        path,
        Tower(),
        index,
        query_signature=SIGNATURE,
        payload=payload,
    )
    server = Server(path, port=0, grpc_port=0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def document(client):
    status, document = client.get("/openapi.json")
    assert status == 200
    return document


TYPES = {
    "string": str,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def is_of(kind, value):
    if kind in ("integer", "number"):
        kinds = int if kind == "integer" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def fits(document, schema, value):
    """Whether a value fits a schema of what JSON Schema has that is used here."""
    known = {"$ref", "anyOf", "oneOf", "const", "type", "items", "minItems"}
    known |= {"maxItems", "properties", "required", "additionalProperties"}
    known |= {"description", "default", "format", "contentEncoding"}
    assert set(schema) <= known, schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return fits(document, document["components"]["schemas"][name], value)
    if "anyOf" in schema:
        return any(fits(document, one, value) for one in schema["anyOf"])
    if "oneOf" in schema:
        return sum(fits(document, one, value) for one in schema["oneOf"]) == 1
    if "const" in schema:
        return value == schema["const"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(is_of(kind, value) for kind in kinds):
        return False
    if isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
        return least <= len(value) <= most and (
            "items" not in schema
            or all(fits(document, schema["items"], one) for one in value)
        )
    if isinstance(value, dict) and "properties" in schema:
        properties = schema["properties"]
        assert schema["additionalProperties"] is False
        return set(schema["required"]) <= set(value) <= set(properties) and all(
            fits(document, properties[name], one) for name, one in value.items()
        )
    return True


def of_prediction(document):
    """Schemas of the requests and of the answers."""
    operation = document["paths"]["/v1/models/retrieval:predict"]["post"]
    contents = [operation["requestBody"], operation["responses"]["200"]]
    return [each["content"]["application/json"]["schema"] for each in contents]


@pytest.mark.parametrize(
    "request_body",
    [
        {"inputs": USERS},
        {"inputs": {**USERS, "k": 3}},
        {"inputs": {**USERS, "user": [{"b64": "dTM="}, "u7"]}},
        {"instances": [ROW, ROW]},
        {"instances": [{**ROW, "k": 2}], "signature_name": "serving_default"},
        {
            "signature_name": "with_exclusions",
            "inputs": {**USERS, "k": 40, "exclusions": [["i1"], ["i2"]]},
        },
        {
            "signature_name": "with_exclusions",
            "instances": [{**ROW, "k": 40, "exclusions": ["i1", "i2"]}],
        },
        {"signature_name": "embed_query", "inputs": USERS},
        {"signature_name": "embed_query", "instances": [ROW]},
    ],
)
def test_what_is_answered_fits(client, document, request_body):
    requests, answers = of_prediction(document)
    status, answer = client.predict(request_body)
    assert status == 200, answer
    assert fits(document, requests, request_body)
    assert fits(document, answers, answer)


@pytest.mark.parametrize(
    "request_body",
    [
        {"inputs": {"user": ["u3"]}},
        {"inputs": {**USERS, "age": [1]}},
        {"inputs": {**USERS, "k": "3"}},
        {"inputs": {**USERS, "k": [3]}},
        {"inputs": {**USERS, "k": 2.5}},
        {"inputs": {**USERS, "user": "u3"}},
        {"inputs": {**USERS, "user": [3, 4]}},
        {"inputs": {**USERS, "shift": [0.5, 1.0]}},
        {"inputs": {**USERS, "shift": [[0.5, 1.0]] * 2}},
        {"inputs": {**USERS, "exclusions": [["i1"]] * 2}},
        {"instances": ROW},
        {"instances": [{**ROW, "shift": 0.5}]},
        {"signature_name": "absent", "inputs": USERS},
        {"inputs": USERS, "instances": [ROW]},
        {},
    ],
)
def test_what_is_refused_does_not_fit(client, document, request_body):
    status, answer = client.predict(request_body)
    assert status == 400
    requests, answers = of_prediction(document)
    assert not fits(document, requests, request_body)
    assert not fits(document, answers, answer)
    error = {"$ref": "#/components/schemas/error"}
    assert fits(document, error, answer)


def test_inputs_have_dtypes_shapes_and_defaults(document):
    inputs = document["components"]["schemas"]["serving_default.inputs"]
    assert sorted(inputs["required"]) == ["shift", "user"]
    told = {name: one["description"] for name, one in inputs["properties"].items()}
    assert told == {"user": "string [rows]", "shift": "float32 [rows, 1]", "k": "int32"}
    assert inputs["properties"]["k"]["default"] == 4
    assert document["info"] == {"title": "retrieval", "version": "1"}


def test_the_other_paths_are_there(server, client, document):
    for path, methods in document["paths"].items():
        for method in methods:
            body = b"{}" if method == "post" else None
            status, _ = client.ask(method.upper(), path, body)
            assert status == {"get": 200, "post": 400}[method], path
    assert document["components"]["securitySchemes"] == {}


class Cells(html.parser.HTMLParser):
    """The rows of all tables, and the tags that there are."""

    def __init__(self):
        super().__init__()
        self.tags, self.rows = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th", "code"):
            self.rows[-1][-1] += data


def test_the_page(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/docs")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    page = Cells()
    page.feed(text)
    for row in (
        ["user", "string [rows]", "refused"],
        ["shift", "float32 [rows, 1]", "refused"],
        ["k", "int32", "4"],
        ["exclusions", "string [rows, any]", "refused"],
        ["title", "string [rows, any]"],
        ["new", "bool [rows, any]"],
    ):
        assert row in page.rows
    # Nothing comes from elsewhere.
    assert not page.tags & {"script", "link", "img"} and "//" not in text


def test_a_name_that_is_no_html(server):
    text = signature_page('<b>"&', server.service.versions.current)
    page = Cells()
    page.feed(text)
    assert "b" not in page.tags and "&lt;b&gt;&quot;&amp;" in text


def test_a_model_whose_items_change_behind_tokens(tmp_path):
    from live_models import export, items

    export(tmp_path / "m", items(1, ["a", "b"]))
    tokens = {"query_token": QueryToken(TOKEN), "admin_token": AdminToken(TOKEN[::-1])}
    server = Server(tmp_path / "m", port=0, grpc_port=0, **tokens)
    server.start()
    client = Client(server.port)
    field = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/docs", "/openapi.json"):
        assert client.get(path)[0] == 401
    status, document = client.ask("GET", "/openapi.json", headers=field)
    assert status == 200
    inputs = document["components"]["schemas"]["serving_default.inputs"]
    assert inputs["properties"]["where"]["default"] == [""]
    assert inputs["properties"]["where"]["description"] == "string [rows]"
    paths = document["paths"]
    for name in ("upsert", "delete"):
        operation = paths[f"/v1/models/retrieval:{name}"]["post"]
        assert operation["security"] == [{"admin": []}]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        change = items(2, ["c"]) if name == "upsert" else {"ids": ["a"]}
        assert fits(document, schema, change) and not fits(document, schema, {})
    assert paths["/v1/models/retrieval:predict"]["post"]["security"] == [{"query": []}]
    assert "security" not in paths["/healthz/ready"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"query", "admin"}
    client.close()
    server.stop()
