"""Keys of models.yaml: authentication, the models that a key may use, and errors of the file."""

import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from config import SettingError
from tests.conftest import EVER, ROOT, environment, until
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.forked import run
from tests.support.frames import chat_body
from tests.support.http import openai_error

ALICE, BOB = "alice-has-a-long-secret", "bob-has-a-long-secret-too"
HASHED = f"sha256:{sha256(ALICE.encode()).hexdigest()}"
MODELS = """
models:
  - {name: fast, provider: demo, model: demo, aliases: [quick]}
  - {name: secret-project, provider: demo, model: demo}
"""
Client = Callable[..., Any]


@pytest.fixture
def client(app_with: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """client(text of models.yaml, SETTING=value, ...). The file is looked at ten times as often as usual."""
    monkeypatch.setattr("dispatch.sources.file_watcher.LOOK_SECONDS", 0.05)

    def start(text: str, **settings: object) -> Any:
        (tmp_path / "models.yaml").write_text(text)
        return app_with(MODELS_FILE=tmp_path / "models.yaml", **settings)

    return start


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(client: Any, key: str, path: str = "/v1/chat/completions", **body: Any) -> Any:
    return client.post(path, json=chat_body(**body), headers=bearer(key))


@pytest.mark.parametrize("key", [HASHED, HASHED.upper().replace("SHA", "sha"), ALICE])
def test_a_key_of_the_file_alone_switches_authentication_on(client: Client, key: str) -> None:
    app = client(f'keys: [{{name: alice, key: "{key}"}}]')
    assert ask(app, ALICE, model="demo").status_code == 200
    assert openai_error(ask(app, key if key != ALICE else "x"), 401)["code"] == "invalid_api_key"
    assert openai_error(app.post("/v1/chat/completions", json=chat_body()), 401)["code"] == "missing_api_key"


def test_keys_of_the_settings_go_on_beside_them(client: Client) -> None:
    app = client(f'keys: [{{name: alice, key: "{HASHED}"}}]', API_KEYS=f"bob:{BOB}")
    assert [ask(app, key, model="demo").status_code for key in (ALICE, BOB)] == [200, 200]


@pytest.mark.parametrize(
    ("expires", "status"),
    [("2020-01-31", 401), ("2020-01-31T10:00:00Z", 401), ("2999-01-31", 200), ("'2999-01-31T10:00:00+02:00'", 200)],
)
def test_an_expired_key_is_refused(client: Client, expires: str, status: int) -> None:
    app = client(f'keys: [{{name: alice, key: "{HASHED}", expires: {expires}}}]')
    answer = ask(app, ALICE, model="demo")
    assert answer.status_code == status
    if status == 401:
        assert "expired" in openai_error(answer, 401)["message"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"model": "fast"}, 200),
        ({"model": "quick"}, 200),
        ({"model": "openai/gpt-4o"}, 200),
        ({"model": "gpt-4o", "provider": "openai"}, 200),
        ({"model": "secret-project"}, 403),
        ({"model": "demo/demo"}, 403),
        ({"model": "demo", "provider": "demo"}, 403),
        ({"model": "fast", "provider": "openai"}, 200),
        ({"model": "fast", "provider": "nobody"}, 403),
        ({"model": "fast", "provider": "groq"}, 403),
        ({"model": "no-such-model-anywhere", "provider": "demo"}, 403),
        ({"model": "groq/llama"}, 403),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_may_call_its_models_alone(
    client: Client, upstream: OpenAIUpstream, asked: dict[str, Any], status: int, stream: bool
) -> None:
    text = f'{MODELS}\nkeys: [{{name: alice, key: "{HASHED}", models: [fast, "openai/*"]}}]'
    app = client(text, OPENAI_API_KEY=upstream.key, OPENAI_BASE_URL=f"{upstream.url}/v1", PROVIDER_NAME="demo")
    upstream.always(ScriptedAnswer())
    answer = ask(app, ALICE, stream=stream, **asked)
    assert answer.status_code == status, answer.data
    if status == 403:
        refusal = openai_error(answer, 403)
        assert refusal["code"] == "permission_denied"
        assert "fast, openai/*" in refusal["message"]
        for other in ("secret-project", "demo", "groq", "anthropic"):
            assert other not in refusal["message"]


def test_a_model_that_others_may_call_is_refused_like_one_that_is_not_there(client: Client) -> None:
    app = client(f'{MODELS}\nkeys: [{{name: alice, key: "{HASHED}", models: [fast]}}]')
    answers = [ask(app, ALICE, model=model) for model in ("secret-project", "never-heard-of", "secret-projecT")]
    assert {(each.status_code, each.data) for each in answers} == {(403, answers[0].data)}
    shown = [app.get(f"/v1/models/{each}", headers=bearer(ALICE)) for each in ("secret-project", "secret-projecT")]
    assert [each.status_code for each in shown] == [404, 404]
    assert shown[0].data.replace(b"project", b"projecT") == shown[1].data


def test_lists_have_what_the_key_may_call(client: Client) -> None:
    keys = f'keys: [{{name: alice, key: "{HASHED}", models: ["f*"]}}, {{name: bob, key: {BOB}}}]'
    app = client(MODELS + keys)

    def listed(key: str) -> set[str]:
        return {each["id"] for each in app.get("/v1/models", headers=bearer(key)).get_json()["data"]}

    assert listed(ALICE) == {"fast", "quick"}
    assert {"fast", "quick", "secret-project"} <= listed(BOB)
    providers = app.get("/v1/providers", headers=bearer(ALICE)).get_json()
    assert providers == {"providers": [], "default": None}
    assert app.get("/v1/providers", headers=bearer(BOB)).get_json()["default"] == "demo"


def test_other_endpoints_keep_to_the_models_too(client: Client) -> None:
    app = client(f'{MODELS}\nkeys: [{{name: alice, key: "{HASHED}", models: [fast]}}]')
    for path, body in (
        ("/v1/embeddings", {"model": "demo", "input": "hi"}),
        ("/v1/completions", {"model": "demo", "prompt": "hi"}),
        ("/v1/images/generations", {"model": "demo", "prompt": "hi"}),
        ("/v1/moderations", {"model": "demo", "input": "hi"}),
        ("/v1/rerank", {"model": "demo", "query": "hi", "documents": ["a"]}),
    ):
        openai_error(app.post(path, json=body, headers=bearer(ALICE)), 403)
    assert openai_error(ask(app, ALICE, messages=5, model="demo"), 400)["param"] == "messages"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (f'[{{name: a, key: "{HASHED}"}}, {{name: a, key: {BOB}}}]', "line 1: the name 'a' is given for the second"),
        (f'[{{name: a, key: "{HASHED}"}}, {{name: b, key: {ALICE}}}]', "line 1: 'b' has the same key as 'a'"),
        ('[{name: a, key: "sha256:123"}]', "keys[0].key: Must be `sha256:` and 64 hexadecimal digits"),
        (f'[{{name: a, key: "{HASHED}0"}}]', "keys[0].key: Must be `sha256:`"),
        (f'[{{name: a, key: "{HASHED.replace("sha256", "sha512")}"}}]', "keys[0].key: Must be `sha256:`"),
        ("[{name: a, key: 'SHA-1:da39a3ee5e6b4b0d3255bfef95601890afd80709'}]", "keys[0].key: Must be `sha256:`"),
        ("[{name: a, key: $2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW}]", "Must be `sha256:`"),
        ('[{name: a, key: ""}]', "keys[0].key: Must be a key"),
        ("[{name: a, key: 12345678901234567890}]", "keys[0].key"),
        (f"[{{name: a, key: {BOB}, requests_per_minute: -1}}]", "keys[0].requests_per_minute"),
        (f"[{{name: a, key: {BOB}, tokens_per_minute: 1.5}}]", "keys[0].tokens_per_minute"),
        (f"[{{name: a, key: {BOB}, concurrent: many}}]", "keys[0].concurrent"),
        (f"[{{name: a, key: {BOB}, budget: {{day: -1}}}}]", "keys[0].budget.day"),
        (f"[{{name: a, key: {BOB}, budget: {{week: 1}}}}]", "keys[0].budget.week"),
        (f"[{{name: a, key: {BOB}, expires: soon}}]", "keys[0].expires: Must be a date"),
        (f"[{{name: a, key: {BOB}, expires: 9999-12-31}}]", "keys[0].expires: Must be a date"),
        (f"[{{name: a, key: {BOB}, models: []}}]", "keys[0].models"),
        (f"[{{name: a, key: {BOB}, modles: [x]}}]", "keys[0].modles: Unknown field; 'models' may be meant"),
        (f"[{{key: {BOB}}}]", "keys[0].name"),
        ("[{name: a}]", "keys[0].key"),
        (f"{{a: {BOB}}}", "keys:"),
        (f"[{{name: default, key: {BOB}}}]", "API_KEYS has a key of the name 'default' too"),
        ("[{name: a, key: of-the-settings-itself}]", "'a' has the same key as 'default' of API_KEYS"),
    ],
)
def test_a_mistake_stops_the_start_and_is_named(client: Client, keys: str, said: str) -> None:
    with pytest.raises(SettingError) as error:
        client(f"keys: {keys}\n{MODELS}", API_KEY="of-the-settings-itself")
    assert said in str(error.value)
    for secret in (ALICE, BOB, "of-the-settings", "1234567890"):
        assert secret not in str(error.value)


def test_a_short_key_is_warned_of(client: Client, capfd: Any) -> None:
    app = client("keys: [{name: alice, key: tooshort}]")
    assert ask(app, "tooshort", model="demo").status_code == 200
    said = capfd.readouterr().err
    assert "the key 'alice' is short" in said
    assert "tooshort" not in said


@pytest.mark.parametrize("path", ["/k/{}/v1/chat/completions", "/k/{}/chat/completions", "/k//{}//v1/chat/completions"])
def test_a_key_in_the_path(client: Client, path: str, capfd: Any) -> None:
    app = client(f'keys: [{{name: alice, key: "{HASHED}"}}]', KEY_IN_PATH=True)
    answer = app.post(path.format(ALICE), json=chat_body(model="demo"))
    assert answer.status_code == 200, answer.data
    assert (
        openai_error(app.post(path.format("wrong-key-in-the-path"), json=chat_body()), 401)["code"] == "invalid_api_key"
    )
    openai_error(app.post("/k/v1/chat/completions", json=chat_body()), 401)
    said = capfd.readouterr().err
    assert "caller=alice" in said
    assert ALICE not in said
    assert "wrong-key-in-the-path" not in said


@pytest.mark.parametrize(
    "key", ["a/key/with+slashes==and-more", "a key with spaces & signs?", "schlüssel-mit-umlauten"]
)
def test_a_key_in_the_path_may_have_any_characters(client: Client, key: str, capfd: Any) -> None:
    app = client(f"keys: [{{name: alice, key: '{key}'}}]", KEY_IN_PATH=True)
    assert app.post(f"/k/{quote(key, safe='')}/v1/chat/completions", json=chat_body(model="demo")).status_code == 200
    openai_error(app.post(f"/k/{quote(key, safe='')}x/v1/chat/completions", json=chat_body(model="demo")), 401)
    said = capfd.readouterr().err
    assert key not in said
    assert quote(key, safe="") not in said


@pytest.mark.parametrize("path", ["/v1/models", "/v1/providers", "/v1/embeddings", "/v1/messages", "/v1/responses"])
def test_a_key_in_the_path_opens_every_endpoint(client: Client, path: str) -> None:
    app = client(f"keys: [{{name: alice, key: {ALICE}}}]", KEY_IN_PATH=True)
    method = app.get if path in ("/v1/models", "/v1/providers") else app.post
    assert method(f"/k/{ALICE}{path}").status_code != 401
    openai_error(method(path), 401) if "messages" not in path else None
    assert method(f"/k/wrong-key-of-nobody{path}").status_code == 401


def test_a_socket_may_always_have_its_key_in_the_path(client: Client) -> None:
    """A browser's and Twilio's sockets can send no header."""
    app = client(f"keys: [{{name: alice, key: {ALICE}}}]")
    upgrade = {"Upgrade": "WebSocket", "Connection": "Upgrade"}
    assert app.get(f"/k/{ALICE}/v1/models", headers=upgrade).status_code == 200
    openai_error(app.get(f"/k/{ALICE}/v1/models"), 404)
    openai_error(app.get("/k/wrong-key-of-nobody/v1/models", headers=upgrade), 401)


def test_a_key_in_the_path_is_not_taken_unless_wanted_and_never_logged(client: Client, capfd: Any) -> None:
    app = client(f'keys: [{{name: alice, key: "{HASHED}"}}]')
    answer = app.post(f"/k/{ALICE}/v1/chat/completions", json=chat_body())
    assert openai_error(answer, 404)
    assert ALICE not in answer.get_data(as_text=True) + capfd.readouterr().err


@pytest.mark.thorough
def test_a_new_key_is_shown_once_and_its_line_works(client: Client) -> None:
    made = run(["-m", "tools.keys", "new", "alice"], environment(), EVER)
    assert made.returncode == 0, made.stderr
    key = next(line.strip() for line in made.stdout.splitlines() if line.strip().startswith("sk-"))
    line = next(line for line in made.stdout.splitlines() if "sha256:" in line)
    app = client(f"keys:\n{line}\n")
    assert ask(app, key, model="demo").status_code == 200
    assert made.stdout.count(key) == 1
    assert run(["-m", "tools.keys", "new", "two words"], environment(), EVER).returncode == 2


def test_keys_are_followed(client: Client, tmp_path: Path) -> None:
    app, file = client(f"{MODELS}keys: [{{name: alice, key: {ALICE}}}]"), tmp_path / "models.yaml"
    _replace(file, f"{MODELS}keys: [{{name: bob, key: {BOB}}}]")
    until(lambda: ask(app, BOB, model="fast").status_code == 200, "the new key")
    openai_error(ask(app, ALICE, model="fast"), 401)


def test_a_file_that_loses_its_keys_lets_nobody_in(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, file = client(f"{MODELS}keys: [{{name: alice, key: {ALICE}}}]"), tmp_path / "models.yaml"
    monkeypatch.setattr(logging.getLogger("thinkline"), "handlers", [caplog.handler])
    for text in (MODELS, f"{MODELS}keys: []", f"{MODELS}keys: [{{name: a, key: x, limit: 1}}]"):
        caplog.clear()
        _replace(file, text)
        until(lambda: "last good one stays in use" in caplog.text, "the file to be looked at")
        openai_error(app.get("/v1/models"), 401)
        assert ask(app, ALICE, model="fast").status_code == 200


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_the_example_has_no_key_that_is_known() -> None:
    text = (ROOT / "models.example.yaml").read_text() + (ROOT / "README.md").read_text()
    for guess in ("test", "password", "secret", "changeme", "alice", "key", ""):
        assert sha256(guess.encode()).hexdigest() not in text
