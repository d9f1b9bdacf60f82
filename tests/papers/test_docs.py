import io
import json
import re
import shlex
import threading
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from html.parser import HTMLParser

import pytest
from flask import render_template
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

from core import errors
from core.errors import GatewayError, InvalidRequest
from schemas.chat.request import load_chat
from schemas.embeddings import load_embeddings
from schemas.messages.request import load_messages
from schemas.moderations import load_moderations
from schemas.openapi import document as openapi
from schemas.openapi.document import document
from schemas.text_completion import load_text_completion
from tests.conftest import ROOT
from views.blueprint import api
from views.pages import FALLBACK, pretty

API = document()
SCHEMAS = API["components"]["schemas"]
OPERATIONS = {
    (path, method): operation for path, methods in API["paths"].items() for method, operation in methods.items()
}
NOT_DOCUMENTED = ("pages.", "live.", "metrics.")
"""Blueprints for people and for Prometheus: they are no part of the API."""

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
ASK_TOOL = {"messages": [{"role": "user", "content": "How is the weather?"}], "tools": [TOOL]}


@pytest.fixture(scope="module")
def app_with(app_with):
    """The same app for the same settings: no test of this file changes one."""
    return cache(app_with)


def walk(value) -> Iterator:
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(each)


def without_other_keys(schema):
    """The schema without its tolerance: an answer's key that it does not name is an error."""
    schema = deepcopy(schema)
    for each in walk(schema):
        if isinstance(each, dict) and "properties" in each and isinstance(each["properties"], dict):
            each["additionalProperties"] = False
    return schema


def check(schema, value, *, strict=False):
    components = {"schemas": without_other_keys(SCHEMAS) if strict else SCHEMAS}
    Draft202012Validator({**schema, "components": components}).validate(value)


def schema_named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def resolve_reference(node):
    while "$ref" in node:
        at = API
        for step in node["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        node = at
    return node


def documented_schema(method, path, response):
    """The schema that the document promises for a response."""
    found = resolve_reference(OPERATIONS[path, method]["responses"][str(response.status_code)])
    assert set(found["headers"]) - {"Retry-After", "x-should-retry"} <= set(response.headers.keys())
    return found["content"][response.mimetype]["schema"]


def frames(text):
    found = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert found[-1] == "[DONE]"
    return [json.loads(each) for each in found[:-1]]


def routes(app):
    found = set()
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith(NOT_DOCUMENTED):
            path = re.sub(r"<.*?>", "{}", rule.rule)
            found |= {(path, method.lower()) for method in rule.methods - {"HEAD", "OPTIONS"}}
    return found - {(re.sub(r"<.*?>", "{}", rule), "get") for rule in api.sockets}


PROMISED = {(re.sub(r"{.*?}", "{}", path), method) for path, method in OPERATIONS}


def test_every_route_is_documented_and_every_documented_route_exists(app_with):
    assert routes(app_with().application) == PROMISED


def test_a_new_route_is_noticed(app_with):
    app = app_with().application
    app.add_url_rule("/new/<int:thing>", "new", methods=["POST"])
    assert routes(app) - PROMISED == {("/new/{}", "post")}


def test_the_document_is_whole():
    assert API["openapi"] == "3.1.0"
    assert API["servers"] == [{"url": "/v1"}]
    assert set(API["components"]["securitySchemes"]) == {"bearer", "x-api-key"}
    for node in walk(API):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            assert resolve_reference(node)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))
    for (path, _), operation in OPERATIONS.items():
        assert operation["summary"]
        assert operation["description"]
        assert "200" in operation["responses"]
        assert all(resolve_reference(each)["description"] for each in operation["responses"].values())
        parameters = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert parameters == set(re.findall(r"{(.*?)}", path))


def test_the_version_is_the_products():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert API["info"]["version"] == project["version"]


def test_every_field_of_a_request_is_explained():
    asked = [schema for schema in SCHEMAS.values() if "additionalProperties" in schema]
    assert len(asked) >= 4
    fields = {name: field for schema in asked for name, field in schema["properties"].items()}
    assert all(field.get("description") for field in fields.values()), fields
    assert set(openapi.FIELDS) <= set(fields)
    assert all("type" in field or "anyOf" in field or "$ref" in field for field in fields.values())
    assert set(openapi.LISTS) <= set(fields)


def test_every_failure_is_documented():
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GatewayError)]
    for each in classes:
        status = str(each.status)
        for path in ("/chat/completions", "/embeddings"):
            text = resolve_reference(OPERATIONS[path, "post"]["responses"][status])["description"]
            assert each.code is None or f"`{each.code}`" in text, each
    assert {"503", "4XX"} <= set(OPERATIONS["/chat/completions", "post"]["responses"])


# fmt: off
MESSAGES = [
    {"content": "hi"}, {"role": "nobody", "content": "hi"}, {"role": "user", "content": 5},
    {"role": "user", "content": None}, {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "user", "content": [{"text": "hi"}]}, {"role": "user", "content": ["hi"]},
    {"role": "assistant", "content": None, "tool_calls": [{}]}, {"role": "user", "name": 5},
]
OPTIONS = [
    {"stream": "yes"}, {"stream": 1}, {"temperature": True}, {"temperature": "0.5"}, {"temperature": 0.5},
    {"n": 0}, {"n": 1.0}, {"n": 1.5}, {"n": 129}, {"stop": "a"}, {"stop": ["a"]}, {"stop": [1]}, {"stop": 1},
    {"tools": [TOOL]}, {"tools": ["a"]}, {"tool_choice": "auto"}, {"tool_choice": {}}, {"tool_choice": []},
    {"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": "yes"}}, {"stream_options": []},
    {"provider": 5}, {"logit_bias": {"5": 1}}, {"brand_new": {"a": 1}},
]
CHATS = [{}, {"messages": []}, HELLO, *({"messages": [each]} for each in MESSAGES), *(HELLO | each for each in OPTIONS)]
ANTHROPICS = [
    HELLO, {**HELLO, "model": "m"}, *(HELLO | {"model": "m", "max_tokens": 9} | each for each in (
        {}, {"max_tokens": 0}, {"max_tokens": "9"}, {"system": "a"}, {"system": [{"type": "text", "text": "a"}]},
        {"system": 5}, {"stream": 1}, {"top_k": 1.5}, {"tools": [5]}, {"tool_choice": "auto"}, {"messages": []},
        {"messages": [{"role": "tool", "content": "a"}]}, {"thinking": 5}, {"stop_sequences": "a"}, {"brand_new": 1},
    )),
]
PROMPTS = [
    {}, {"prompt": "a"}, {"prompt": ["a"]}, {"prompt": ["a", "b"]}, {"prompt": [1]}, {"prompt": "a", "stream": 1},
]
JUDGED = [{}, {"input": "a"}, {"input": ["a", "b"]}, {"input": [{"type": "text", "text": "a"}]}, {"input": 1}]
EMBEDDINGS = [
    {}, {"input": "a"}, {"input": ["a", "b"]}, {"input": [1, 2]}, {"input": [[1], [2, 3]]}, {"input": []},
    {"input": [[]]}, {"input": ["a", 1]}, {"input": {}}, {"input": "a", "dimensions": 0},
    {"input": "a", "dimensions": 5}, {"input": "a", "encoding_format": "hex"},
    {"input": "a", "encoding_format": "base64"}, {"input": "a", "brand_new": 1},
]
# fmt: on


@pytest.mark.parametrize(
    ("load", "name", "body"),
    [(load_chat, "ChatRequest", body) for body in CHATS]
    + [(load_messages, "MessagesRequest", body) for body in ANTHROPICS]
    + [(load_text_completion, "TextCompletionRequest", body) for body in PROMPTS]
    + [(load_moderations, "ModerationsRequest", body) for body in JUDGED]
    + [(load_embeddings, "EmbeddingsRequest", body) for body in EMBEDDINGS],
)
def test_the_document_takes_what_the_server_takes(load, name, body):
    def taken(attempt, refusal):
        try:
            attempt()
        except refusal:
            return False
        return True

    said = taken(lambda: check(schema_named(name), body), ValidationError)
    assert said == taken(lambda: load(json.dumps(body).encode()), InvalidRequest)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_the_examples_keep_to_the_schemas(path, method):
    operation = OPERATIONS[path, method]
    for holder in (operation.get("requestBody", {}), operation["responses"]["200"]):
        for media in holder.get("content", {}).values():
            for example in media.get("examples", {}).values():
                check(media["schema"], example["value"], strict=True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/chat/completions", HELLO),
        ("post", "/chat/completions", {**HELLO, "n": 2, "include_reasoning": True}),
        ("post", "/chat/completions", {**HELLO, "max_tokens": 1}),
        ("post", "/chat/completions", ASK_TOOL),
        ("post", "/chat/completions", {}),
        ("post", "/chat/completions", {**HELLO, "provider": "nobody"}),
        ("post", "/messages", {**HELLO, "model": "m", "max_tokens": 9}),
        ("post", "/messages", {}),
        ("post", "/messages", {**HELLO, "model": "m", "max_tokens": 9, "provider": "nobody"}),
        ("post", "/messages/count_tokens", {**HELLO, "model": "m"}),
        ("post", "/messages/count_tokens", HELLO),
        ("post", "/completions", {"prompt": "Hello"}),
        ("post", "/completions", {"prompt": ["Hello", "there"]}),
        ("post", "/moderations", {"input": "Hello"}),
        ("post", "/embeddings", {"input": "Hello"}),
        ("post", "/embeddings", {"input": ["Hello", "there"], "encoding_format": "base64"}),
        ("post", "/embeddings", {"input": []}),
        ("post", "/images/generations", {"prompt": "Hello", "n": 2}),
        ("post", "/images/generations", {"prompt": ""}),
        ("post", "/responses", {"input": "Hello"}),
        ("post", "/responses", {"input": "Hello", "background": True}),
        ("post", "/responses/compact", {"model": "demo", "input": "Hello"}),
        ("post", "/responses/input_tokens", {"model": "demo", "input": "Hello"}),
        ("get", "/responses/{identifier}", None),
        ("get", "/responses/{identifier}/input_items", None),
        ("get", "/models", None),
        ("get", "/models/{id}", None),
        ("get", "/providers", None),
        ("get", "/health", None),
        ("get", "/ready", None),
        ("get", "/openapi.json", None),
    ],
)
def test_real_answers_keep_to_the_document(app_with, method, path, body):
    response = app_with().open("/v1" + path.replace("{id}", "demo"), method=method.upper(), json=body)
    check(documented_schema(method, path, response), response.json, strict=True)


@pytest.mark.parametrize("body", [HELLO, ASK_TOOL, {**HELLO, "n": 2, "include_reasoning": True}])
def test_real_streams_keep_to_the_document(app_with, body):
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    response = app_with().post("/v1/chat/completions", json=body)
    schema = documented_schema("post", "/chat/completions", response)
    chunks = frames(response.text)
    assert len(chunks) > 3
    for chunk in chunks:
        check(schema, chunk, strict=True)
        check(schema_named("Chunk"), chunk)


@pytest.mark.parametrize(
    ("settings", "path", "status"),
    [
        ({"API_KEY": "secret"}, "/chat/completions", 401),
        ({"API_KEY": "secret"}, "/embeddings", 401),
        ({"API_KEY": "secret"}, "/messages", 401),
        ({"MAX_BODY_BYTES": 5}, "/chat/completions", 413),
    ],
)
def test_real_refusals_keep_to_the_document(app_with, settings, path, status):
    response = app_with(**settings).post("/v1" + path, json=HELLO)
    assert response.status_code == status
    check(documented_schema("post", path, response), response.json, strict=True)


def test_an_unknown_model_keeps_to_the_document(app_with):
    response = app_with().get("/v1/models/no/such")
    assert response.status_code == 404
    check(documented_schema("get", "/models/{id}", response), response.json, strict=True)


def test_an_answer_that_breaks_the_promise_is_noticed():
    with pytest.raises(ValidationError):
        check(schema_named("Model"), {"id": "a", "object": "model", "created": "today", "owned_by": "b"})
    with pytest.raises(ValidationError):
        check(schema_named("Health"), {"status": "ok", "version": "1.0.0", "mood": "fine"}, strict=True)


class Page(HTMLParser):
    """What a browser would find on the page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.samples, self._sample = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "code" and dict(attrs).get("class"):
            self._sample = [dict(attrs)["class"], ""]

    def handle_data(self, data):
        if self._sample:
            self._sample[1] += data

    def handle_endtag(self, tag):
        if tag == "code" and self._sample:
            self.samples.append(tuple(self._sample))
            self._sample = None

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture
def page(app_with):
    return Page(app_with().get("/docs").text)


@pytest.fixture
def schema_page(app_with):
    return Page(app_with().get("/docs/schemas").text)


@pytest.mark.parametrize(
    "path", ["/docs", "/v1/docs", "/docs/schemas", "/openapi.json", "/v1/openapi.json", "/web/docs.css"]
)
def test_no_key_is_needed_to_read(app_with, path):
    client = app_with(API_KEY="secret")
    response = client.get(path, headers={"X-Forwarded-For": "192.0.2.1", "Host": "voice.example"})
    assert response.status_code == 200
    assert "secret" not in response.text


def test_both_documents_are_the_same(app_with):
    client = app_with()
    assert client.get("/openapi.json").json == client.get("/v1/openapi.json").json == API


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not {"style", "iframe", "form", "base", "object"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")]
    sources = page.values("src") + [value for tag, name, value in page.attributes if (tag, name) == ("link", "href")]
    assert [each for each in sources if not each.startswith(("/web/", "data:"))] == []


def test_every_link_of_the_pages_leads_somewhere(app_with, page, schema_page):
    client = app_with()
    ids = {"/docs": page.values("id"), "/docs/schemas": schema_page.values("id")}
    assert all(len(each) == len(set(each)) for each in ids.values())
    for here, links in (("/docs", page.values("href")), ("/docs/schemas", schema_page.values("href"))):
        for link in links:
            path, _, fragment = link.partition("#")
            if (path or here) in ids:
                assert not fragment or fragment in ids[path or here], link
            elif link.startswith("/"):
                assert client.get(path).status_code == 200, link


def test_the_pages_show_the_whole_document(app_with, page, schema_page):
    client = app_with()
    text = client.get("/docs").text + client.get("/docs/schemas").text
    for (path, _), operation in OPERATIONS.items():
        assert operation["operationId"] in page.values("id")
        assert f"<code>/v1{path}</code>" in text
        assert operation["summary"] in text
    for name, schema in SCHEMAS.items():
        assert f"schema-{name}" in page.values("id") + schema_page.values("id")
        assert all(f"<code>{field}</code>" in text for field in schema["properties"]), name


def test_the_looks_come_from_here(app_with):
    for name in ("base.css", "docs.css"):
        response = app_with().get(f"/web/{name}")
        assert response.mimetype == "text/css"
        assert not re.search(r"url\(|@import", response.text)


def test_the_page_is_found_from_any_directory(app_with, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    client = app_with()
    assert client.get("/docs").status_code == client.get("/web/docs.css").status_code == 200


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("voice.example", "http://voice.example"),
        ("127.0.0.1:8133", "http://127.0.0.1:8133"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("", FALLBACK),
        ('x"><script>alert(1)</script>', FALLBACK),
        ("x'; rm -rf ~; '", FALLBACK),
        ("$(reboot)", FALLBACK),
        ("a`b`", FALLBACK),
        ("user@evil.example", FALLBACK),
        ("evil.example/path", FALLBACK),
    ],
)
def test_only_a_sane_host_gets_into_the_examples(app_with, host, base):
    text = app_with(API_KEY="a-secret").get("/docs", headers={"Host": host}).text
    assert f"{base}/v1/chat/completions" in text
    assert "<script>" not in text
    for odd in ("rm -rf", "reboot", "a`b`", "evil"):
        assert odd not in text


def test_an_https_address_stays_one(app_with):
    text = app_with(API_KEY="a-secret").get("/docs", base_url="https://voice.example").text
    assert "https://voice.example/v1/chat/completions" in text


def test_what_the_document_says_is_escaped(app_with):
    odd = deepcopy(API)
    odd["info"]["description"] = "<b>bold</b> `<i>`"
    odd["paths"]["/health"]["get"]["summary"] = "<script>"
    with app_with().application.test_request_context():
        text = render_template(
            "docs.html", api=odd, base='"><b>', pretty=pretty, tags=["Chat"], bodies=set(), guides={}
        )
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;bold&lt;/b&gt; <code>&lt;i&gt;</code>" in text


def test_the_curl_examples_work(app_with, page):
    client = app_with(USAGE_DAYS=90)
    commands = [shlex.split(text.replace("\\\n", " ")) for kind, text in page.samples if kind == "curl"]
    assert len(commands) == len(OPERATIONS) + len(openapi.CHATS) - 1
    for words in commands:
        url = next(word for word in words if word.startswith("http://"))
        headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
        body = words[words.index("-d") + 1] if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
        response = client.open(url, method=method, headers=headers, data=body)
        # The demo judges nobody, and has not served the response and the request that the page names.
        status = 400 if url.endswith("/moderations") else 404 if "/resp_1" in url or "/turn-42" in url else 200
        assert response.status_code == status, words
        assert ("-N" in words) == (response.mimetype == "text/event-stream")


@pytest.mark.parametrize(
    ("forwarded", "scheme"), [("https", "https"), ("https,http", "https"), ("http", "http"), ("x", "http")]
)
def test_the_page_knows_of_tls_before_it(app_with, forwarded, scheme):
    headers = {"Host": "voice.example", "X-Forwarded-Proto": forwarded, "X-Forwarded-Ssl": "off"}
    assert f"{scheme}://voice.example/v1" in app_with(API_KEY="a-secret").get("/docs", headers=headers).text


@pytest.fixture
def written_urls(app_with):
    """The app on a real port: its address, and the bodies that it gets."""
    app = app_with().application
    bodies = []

    def overheard(environ, start_response):
        raw = get_input_stream(environ).read()
        bodies.append(json.loads(raw or "null"))
        return app({**environ, "wsgi.input": io.BytesIO(raw)}, start_response)

    server = make_server("127.0.0.1", 0, overheard, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_python_examples_work_and_ask_what_the_curl_examples_ask(app_with, written_urls, capsys):
    address, bodies = written_urls
    shown = Page(app_with().get("/docs", headers={"Host": address}).text)
    examples = [text for kind, text in shown.samples if kind == "python" and "moderations" not in text]
    for text in examples:
        exec(compile(text, "example", "exec"), {})  # our own page's
        assert capsys.readouterr().out.strip(), text
    values = [
        example["value"]
        for (path, _), operation in OPERATIONS.items()
        if path != "/moderations"
        for example in operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("examples", {})
        .values()
    ]
    assert len(examples) == len(bodies) == len(values) + 2
    for value, body in zip(values, bodies, strict=False):
        assert value.items() <= body.items()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=20,
)


@given(JSON, st.integers(0, 100))
def test_pretty_json_is_the_same_json(value, width):
    assert json.loads(pretty(value, width)) == value


def test_pretty_json_breaks_only_what_is_too_long():
    value = {"model": "m", "list": [{"a": 1}, {"b": 2}]}
    assert pretty(value) == '{"model": "m", "list": [{"a": 1}, {"b": 2}]}'
    assert pretty(value, 20) == '{\n  "model": "m",\n  "list": [\n    {"a": 1},\n    {"b": 2}\n  ]\n}'
