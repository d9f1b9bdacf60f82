"""`python doctor.py`, run as a person runs it, against emulated upstreams: what it says, names and exits with."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.conftest import EVER, ROOT, environment, free_port
from tests.emulators import Connection, OpenAIUpstream, Received, ScriptedAnswer, Server, faults
from tests.support import forked

pytestmark = pytest.mark.thorough

KEY = "sk-doctor-0123456789abcdef"
PAGE = b"<!DOCTYPE html><title>Welcome</title>"


@dataclass(frozen=True)
class Report:
    code: int
    text: str
    findings: list[dict[str, Any]]
    ok: bool

    def of(self, what: str) -> dict[str, Any]:
        found = [each for each in self.findings if each["what"] == what]
        assert len(found) == 1, self.text
        return found[0]


def run(*arguments: str, **settings: object) -> "CompletedProcess[str]":
    done = forked.run(["doctor.py", *arguments], environment(**{"PORT": 0, "USAGE_DAYS": 90, **settings}), 2 * EVER)
    assert not done.stderr, done.stderr
    return done


def report(*arguments: str, **settings: object) -> Report:
    done = run("--json", *arguments, **settings)
    data = json.loads(done.stdout)
    assert set(data) == {"ok", "findings"}
    for each in data["findings"]:
        assert set(each) == {"what", "state", "detail", "mend", "latency_ms"}
        assert each["state"] in ("ok", "warn", "fail"), each
        assert bool(each["mend"]) == (each["state"] != "ok"), each
    return Report(done.returncode, done.stdout, data["findings"], data["ok"])


def at(upstream: OpenAIUpstream, **settings: object) -> dict[str, object]:
    return upstream.settings(**settings)


def raw(status: str, kind: str, body: bytes) -> Callable[[Connection, Received], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return lambda connection, _: connection.send(head + body)


# all is well


def test_all_good_is_a_table_and_0(upstream):
    done = run(**at(upstream))
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok    ") for line in lines), done.stdout
    details = [re.fullmatch(r"(ok +\S+(?: \S+)? {2,}(?:\d+ ms)?) *\S.*", line) for line in lines]
    assert all(details), done.stdout
    text = done.stdout
    assert re.search(rf"^ok    provider openai +\d+ ms  models: 5, at {upstream.base_url}$", text, re.MULTILINE)
    assert [request.path for request in upstream.received] == ["/v1/models"]
    assert upstream.key not in done.stdout


def test_without_any_provider_the_demo_answers_and_it_says_so():
    done = run()
    assert done.returncode == 0, done.stdout
    text = done.stdout
    assert re.search(r"^warn  default +demo, which is built in: no other provider is configured$", text, re.MULTILINE)
    assert "What to do\n  default: for a real provider, put a line such as OPENAI_API_KEY=" in done.stdout


def test_those_that_are_not_configured_are_one_line(upstream):
    found = report(**at(upstream))
    assert found.ok
    others = found.of("others")["detail"]
    assert others.startswith("not configured: "), others
    assert "deepseek, groq, " in others
    providers = [each["what"] for each in found.findings if each["what"].startswith("provider ")]
    assert providers == ["provider openai", "provider demo"]


def test_why_this_provider_is_the_default(upstream):
    assert report(**at(upstream)).of("default")["detail"] == "openai, the first that is configured"
    named = report(**at(upstream, PROVIDER_NAME="demo")).of("default")
    assert named["detail"] == "demo, as PROVIDER_NAME says"
    lost = report(**at(upstream, PROVIDER_NAME="groq"))
    assert lost.code == 1
    assert "GROQ_API_KEY" in lost.of("default")["detail"]
    assert lost.of("default")["mend"] == "mend PROVIDER_NAME"
    assert lost.of("provider openai")["state"] == "ok"


# what is wrong with a provider


def test_a_wrong_key_names_its_setting(upstream):
    found = report(**at(upstream, OPENAI_API_KEY=KEY))
    assert (found.code, found.ok) == (1, False)
    assert found.of("provider openai")["detail"].startswith("refuses the credential (401)")
    assert found.of("provider openai")["mend"] == "replace OPENAI_API_KEY"
    assert KEY not in found.text


def test_a_key_that_is_not_there_is_to_be_set(upstream):
    found = report(VLLM_BASE_URL=upstream.base_url)
    assert found.of("provider vllm")["detail"].startswith("refuses the credential (401)")
    assert found.of("provider vllm")["mend"] == "set VLLM_API_KEY"


def test_a_vendors_own_variable_is_named_when_it_is_the_one_that_is_set(upstream):
    found = report(AZURE_OPENAI_ENDPOINT=upstream.base_url, AZURE_OPENAI_API_KEY=KEY)
    assert found.of("provider azure")["mend"] == "replace AZURE_OPENAI_API_KEY"


def test_a_port_where_nothing_listens():
    found = report(VLLM_BASE_URL=f"http://127.0.0.1:{free_port()}")
    assert found.code == 1
    assert "connection refused" in found.of("provider vllm")["detail"]
    assert found.of("provider vllm")["mend"] == "start it, or mend VLLM_BASE_URL"


def test_a_host_that_does_not_exist():
    found = report(OPENAI_API_KEY=KEY, OPENAI_BASE_URL="http://nowhere.invalid/v1")
    assert found.code == 1
    assert "no such host" in found.of("provider openai")["detail"]
    assert "OPENAI_BASE_URL" in found.of("provider openai")["mend"]


def test_a_certificate_that_nobody_vouches_for():
    with OpenAIUpstream(tls=True) as upstream:
        found = report(**at(upstream))
    assert found.code == 1
    assert "certificate" in found.of("provider openai")["detail"]
    assert "SSL_CERT_FILE" in found.of("provider openai")["mend"]


def test_an_address_without_v1(upstream):
    found = report(**at(upstream, OPENAI_BASE_URL=upstream.url))
    assert found.code == 1
    assert found.of("provider openai")["detail"].startswith("has no list of models (404)")
    assert found.of("provider openai")["mend"] == "mend OPENAI_BASE_URL; the address may lack /v1"


def test_an_upstream_that_is_reached_but_lists_nothing_is_a_warning():
    with Server(raw("404 Not Found", "application/json", b'{"detail":"Not Found"}')) as server:
        found = report(VLLM_BASE_URL=f"{server.url}/v1")
    assert found.code == 0
    assert found.of("provider vllm")["state"] == "warn"


def test_an_answer_that_is_no_list_is_a_warning():
    with Server(raw("200 OK", "application/json", b'{"object":"list","data":null}')) as server:
        found = report(VLLM_BASE_URL=f"{server.url}/v1")
    assert found.code == 0
    assert found.of("provider vllm")["state"] == "warn"


def test_a_web_page_is_a_wrong_address():
    found_page, no_page = raw("200 OK", "text/html", PAGE), raw("404 Not Found", "text/html", PAGE)
    with Server(found_page) as one, Server(no_page) as other:
        found = report(VLLM_BASE_URL=f"{one.url}/app", LLAMACPP_BASE_URL=f"{other.url}/app")
    assert found.code == 1
    assert found.of("provider vllm")["detail"].startswith("a web page answers (200)")
    assert found.of("provider vllm")["mend"] == "mend VLLM_BASE_URL; the address may lack /v1"
    assert found.of("provider llamacpp")["mend"] == "mend LLAMACPP_BASE_URL; the address may lack /v1"


SPENT = {"error": {"message": "You exceeded your quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}
ANSWERS = {
    "vllm": (ScriptedAnswer(status=429), "warn", "asks to slow down (429)"),
    "llamacpp": (ScriptedAnswer(status=503), "fail", "failed with status 503"),
    "lmstudio": (ScriptedAnswer(status=403), "fail", "refuses the credential (403)"),
    "ollama": (ScriptedAnswer(status=429, error=SPENT), "fail", "no quota left"),
}


def test_what_an_upstream_answers():
    with ExitStack() as stack:
        settings = {}
        for name, (answer, _, _) in ANSWERS.items():
            server = stack.enter_context(OpenAIUpstream())
            server.always(answer, path="/models")
            settings |= {f"{name.upper()}_BASE_URL": server.base_url, f"{name.upper()}_API_KEY": server.key}
        found = report(**settings)
    assert found.code == 1
    for name, (_, state, said) in ANSWERS.items():
        assert found.of(f"provider {name}")["state"] == state
        assert said in found.of(f"provider {name}")["detail"]
    assert found.of("provider lmstudio")["mend"] == "replace LMSTUDIO_API_KEY"


def test_a_key_that_the_vendor_repeats_is_not_shown():
    body = json.dumps({"error": {"message": "You sent the word plain-long-password, which is wrong."}}).encode()
    with Server(raw("400 Bad Request", "application/json", body)) as server:
        found = report(VLLM_BASE_URL=f"{server.url}/v1?code=hidden-away", VLLM_API_KEY="plain-long-password")
    assert "the word ***, which is wrong" in found.of("provider vllm")["detail"]
    assert "VLLM_API_KEY" in found.of("provider vllm")["mend"]
    assert "plain-long-password" not in found.text
    assert "hidden-away" not in found.text


def test_a_default_model_that_is_not_listed_is_a_warning(upstream):
    found = report(**at(upstream, OPENAI_MODEL="gpt-x"))
    assert found.code == 0
    assert found.of("provider openai")["detail"].startswith("gpt-x is not in its list")
    assert found.of("provider openai")["mend"] == "set OPENAI_MODEL"


def test_lists_may_name_a_model_at_more_length():
    with OpenAIUpstream(base="/v1beta/openai", models=("models/gemini-2.5-flash", "llama3.2:latest")) as upstream:
        found = report(
            GEMINI_API_KEY=upstream.key, GEMINI_BASE_URL=upstream.base_url, OLLAMA_API_KEY=upstream.key,
            OLLAMA_BASE_URL=upstream.base_url,
        )  # fmt: skip
    assert [found.of(f"provider {name}")["state"] for name in ("gemini", "ollama")] == ["ok", "ok"]


@pytest.mark.parametrize("fault", [faults.stalled_before_headers, faults.slow_headers])
def test_a_stalled_upstream_is_given_up_in_time(upstream, fault):
    upstream.always(ScriptedAnswer(fault=fault), path="/models")
    began = time.monotonic()
    found = report("--timeout", "0.3", **at(upstream))
    assert time.monotonic() - began < 5
    assert found.code == 1
    assert found.of("provider openai")["detail"].startswith("no answer within 0.3 s")
    assert 250 <= found.of("provider openai")["latency_ms"] < 1500


def test_one_that_does_not_take_the_connection_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        found = report("--timeout", "0.3", VLLM_BASE_URL=f"http://127.0.0.1:{full.getsockname()[1]}")
        for other in others:
            other.close()
    assert found.of("provider vllm")["detail"].startswith("no answer within 0.3 s")
    assert 250 <= found.of("provider vllm")["latency_ms"] < 1500


def test_all_are_asked_at_the_same_time():
    """Each answers only once all three have been asked."""
    together = threading.Barrier(3)
    answer = raw("200 OK", "application/json", b'{"data":[{"id":"m"}]}')

    def handler(connection: Connection, received: Received) -> None:
        try:
            together.wait(5)
        except threading.BrokenBarrierError:
            return
        answer(connection, received)

    with Server(handler) as server:
        names = ("vllm", "llamacpp", "lmstudio")
        found = report(**{f"{name.upper()}_BASE_URL": server.url for name in names})
    assert [found.of(f"provider {name}")["state"] for name in names] == ["ok"] * 3, found.text


# models.yaml


def models_file_setting(folder: Path, text: str) -> dict[str, object]:
    (folder / "models.yaml").write_text(text)
    return {"MODELS_FILE": folder / "models.yaml"}


def test_the_models_of_the_file_and_the_lines_that_mend_them(upstream, tmp_path):
    file = models_file_setting(
        tmp_path,
        f"""\
providers:
  good: {{base_url: "{upstream.base_url}", api_key: "{upstream.key}", model: gpt-4o}}
  bad:
    base_url: {upstream.base_url}
    api_key: {KEY}
    models:
      nested:
        max_tokens: 5
  later: {{kind: telepathy}}
models:
  - {{name: fast, provider: good, model: gpt-4o-mini}}
  - {{name: odd, provider: good, model: gpt-x}}
  - {{name: both, upstreams: [{{provider: good, model: gpt-4o}}, {{provider: bad, model: gpt-4o}}]}}
  - {{name: lost, provider: bad, model: gpt-4o}}
  - {{name: future, provider: later, model: m}}
""",
    )
    found = report(**file)
    path = tmp_path / "models.yaml"
    assert found.code == 1
    assert found.of("models file")["detail"] == f"{path}: providers 3, models 6"
    assert found.of("provider good")["state"] == "ok"
    assert found.of("provider bad")["mend"] == f"replace api_key of bad ({path}, line 5)"
    states = {each["what"]: each["state"] for each in found.findings if each["what"].startswith("model ")}
    assert states == {
        "model bad/nested": "fail",
        "model fast": "ok",
        "model odd": "warn",
        "model both": "warn",
        "model lost": "fail",
        "model future": "fail",
    }
    assert found.of("model odd")["mend"] == f"see {path}, line 12"
    assert found.of("model lost")["mend"] == "see provider bad"
    assert "later (needs a kind of provider that this version has" in found.of("others")["detail"]
    assert KEY not in found.text


def test_a_broken_file_names_file_and_line_and_the_rest_is_told(upstream, tmp_path):
    file = models_file_setting(
        tmp_path, "providers:\n  lab: {base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  - {nam: fast}\n"
    )
    found = report(**at(upstream, PROVIDER_NAME="openai", **file))
    assert found.code == 1
    assert found.of("models file")["detail"].startswith(f"{tmp_path / 'models.yaml'}, line 4: ")
    assert found.of("provider openai")["state"] == "ok"


def test_a_file_that_is_named_but_not_there(tmp_path):
    found = report(MODELS_FILE=tmp_path / "none.yaml")
    assert found.code == 1
    assert "none.yaml" in found.of("models file")["detail"]


def test_a_row_that_waits_for_a_key_is_no_failure(upstream, tmp_path):
    rows = "- {name: fast, provider: groq}\n- {name: both, upstreams: [{provider: openai}, {provider: mistral}]}\n"
    found = report(**at(upstream, **models_file_setting(tmp_path, f"models:\n{rows}")))
    assert found.code == 0, found.text
    assert (found.of("model fast")["state"], found.of("model fast")["mend"]) == ("warn", "groq needs GROQ_API_KEY")
    assert "mistral needs MISTRAL_API_KEY" in found.of("model both")["mend"]


def test_the_example_copied_is_no_failure_and_nothing_new(upstream, tmp_path):
    before = report(**at(upstream))
    found = report(**at(upstream, **models_file_setting(tmp_path, (ROOT / "models.example.yaml").read_text())))
    assert found.code == 0
    whats = [each["what"] for each in found.findings]
    assert whats == [each["what"] for each in before.findings]


# MODEL_LIST_URL


def test_the_list_of_models_is_asked_for_and_its_providers_too(tmp_path):
    models = b'{"models":[{"model_version":"m","handle":"/openai/v1/chat/completions"}]}'

    def handler(connection: Connection, received: Received) -> None:
        listing = received.path == "/list?token=hidden-away"
        raw("200 OK", "application/json", models if listing else b'{"data":[{"id":"m"}]}')(connection, received)

    with Server(handler) as server:
        found = report(MODEL_LIST_URL=f"{server.url}/list?token=hidden-away", DATA_DIR=tmp_path)
        assert found.of("model list")["detail"] == f"{server.url}/list"
    assert found.of("provider list-openai")["state"] == "ok"
    assert "hidden-away" not in found.text
    assert not list(tmp_path.iterdir())


def test_a_list_that_cannot_be_had(tmp_path):
    with Server(raw("401 Unauthorized", "text/plain", b"no")) as server:
        found = report(MODEL_LIST_URL=f"{server.url}/list", MODEL_LIST_AUTH_TOKEN=KEY, DATA_DIR=tmp_path)
    assert found.code == 1
    assert "401" in found.of("model list")["detail"]
    assert "MODEL_LIST_AUTH_TOKEN" in found.of("model list")["mend"]
    assert KEY not in found.text


# what names and values give away


@pytest.mark.parametrize(
    ("settings", "what", "mend"),
    [
        ({"AGENT_ID": "ABCDEFGHIJ"}, "AGENT_ID", "set AGENT_ALIAS_ID"),
        ({"AGENT_ALIAS_ID": "ABCDEFGHIJ"}, "AGENT_ALIAS_ID", "set AGENT_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "s3cr3t-of-mine"}, "AWS_SECRET_ACCESS_KEY", "set AWS_ACCESS_KEY_ID"),
        ({"AZURE_API_KEY": KEY}, "AZURE_API_KEY", "set AZURE_BASE_URL"),
        ({"AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com"}, "AZURE_OPENAI_ENDPOINT", None),
        ({"MODEL_LIST_AUTH_TOKEN": KEY}, "MODEL_LIST_AUTH_TOKEN", "set MODEL_LIST_URL"),
        ({"VLLM_API_KEY": KEY}, "VLLM_API_KEY", "set VLLM_BASE_URL"),
    ],
)
def test_half_of_what_counts_together(settings, what, mend):
    found = report("--timeout", "0.3", **settings)
    if mend is None:  # an address of one's own may want no key
        assert not [each for each in found.findings if each["what"] == f"setting {what}"]
        return
    assert found.code == 1
    assert found.of(f"setting {what}")["mend"] == f"{mend}, or unset {what}"
    assert KEY not in found.text


def test_a_model_without_its_providers_key_is_a_warning():
    found = report(GROQ_MODEL="llama-3.1-8b-instant")
    assert found.code == 0
    assert found.of("setting GROQ_MODEL")["mend"].startswith("set GROQ_API_KEY")


SLIPS = {
    "OPENAI_APIKEY": "OPENAI_API_KEY",
    "openai_api_key": "OPENAI_API_KEY",
    "OPENAI_API_BASE": "OPENAI_BASE_URL",
    "ANTHROPIC_KEY": "ANTHROPIC_API_KEY",
    "XAI_TOKEN": "XAI_API_KEY",
    "GOOGLE_API_KEY": "GEMINI_API_KEY",
    "GROK_API_KEY": "XAI_API_KEY",
    "OPNAI_API_KEY": "OPENAI_API_KEY",
    "OLLAMA_HOST": "OLLAMA_BASE_URL",
    "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY",
    "APIKEY": "API_KEY",
    "OCI_COMPARTMENT_ID": "OCI_COMPARTMENT",
    "MODELS_ALIASES": "MODEL_ALIASES",
}


@pytest.mark.parametrize("name", ["TF_CLI_CONFIG_FILE", "GIT_CONFIG_FILE", "DB_DATABASE_URL"])
def test_other_programs_variables_are_no_misspelt_settings(name):
    assert name not in report(**{name: "x"}).text


def test_names_that_nobody_reads_but_nearly():
    found = report(**dict.fromkeys(SLIPS, "something"))
    assert found.code == 0
    mends = {each["what"]: each["mend"] for each in found.findings if each["what"].startswith("setting ")}
    assert mends == {f"setting {name}": f"{meant} may be meant" for name, meant in SLIPS.items()}


def test_names_that_others_read_are_no_slips(tmp_path):
    others = {
        "LANG": "C.UTF-8",
        "HOSTNAME": "h",
        "AWS_ENDPOINT_URL_S3": "https://s3",
        "AWS_DEFAULT_REGION": "r",
        "TERM": "xterm",
        "SHLVL": "1",
        "TZ": "UTC",
        "WEB_CONCURRENCY": "2",
    }
    ours = {"https_proxy": "http://p:1", "AWS_MAX_ATTEMPTS": "2", "OPENAI_KEY": "k", "INVOCATION_ID": "x"}
    file = models_file_setting(tmp_path, "providers: {lab: {api_key: '${OPENAI_KEY}'}}\n")
    found = report(**others, **ours, **file)
    assert not [each for each in found.findings if each["what"].startswith("setting ")], found.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "YOUR-KEY"),
        ("API_KEYS", "ann:k3y-0f-Ann-01,bob:<key>"),
        ("API_KEY", "change-me"),
        ("OPENAI_API_KEY", "sk-..."),
        ("GROQ_API_KEY", "your_api_key_here"),
        ("AWS_ACCESS_KEY_ID", "..."),
        ("OCI_COMPARTMENT", "ocid1.compartment.oc1..aaaa"),
    ],
)
def test_a_value_that_was_copied_from_an_example(name, value):
    closed = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "GROQ_BASE_URL": "http://127.0.0.1:9/v1"}
    found = report(
        "--timeout", "0.3", **{name: value, **({"AWS_SECRET_ACCESS_KEY": "s"} if "AWS" in name else {})}, **closed
    )
    assert found.code == 1
    assert found.of(f"setting {name}")["mend"] == f"replace {name}"


def test_what_was_not_asked_is_said():
    found = report(IDEOGRAM_API_KEY=KEY)
    assert "not asked: it has no list of them" in found.of("provider ideogram")["detail"]


# the store


def test_redis_is_tried_and_in_time():
    nobody = report(STATE_URL=f"redis://:hidden-away@127.0.0.1:{free_port()}/0")
    assert nobody.code == 1
    assert "STATE_URL" in nobody.of("sessions")["mend"]
    assert "hidden-away" not in nobody.text
    with Server(lambda connection, _: connection.send(b"-ERR wrong\r\n")) as server:
        odd = report("--timeout", "2", STATE_URL=f"redis://127.0.0.1:{server.port}/0")
    assert odd.of("sessions")["state"] == "fail"
    assert report().of("sessions")["state"] == "ok"


def test_the_database_of_usage_is_tried_and_in_time():
    nobody = report(DATABASE_URL=f"postgresql://u:hidden-away@127.0.0.1:{free_port()}/x")
    assert nobody.code == 1
    assert "DATABASE_URL" in nobody.of("usage")["mend"]
    assert "hidden-away" not in nobody.text
    with Server(lambda connection, _: connection.send(b"no PostgreSQL at all\r\n")) as server:
        odd = report("--timeout", "0.5", DATABASE_URL=f"postgresql://u:p@127.0.0.1:{server.port}/x")
    assert odd.of("usage")["state"] == "fail"
    assert report().of("usage")["state"] == "ok"


def test_budgets_that_nothing_checks_are_warned_of(tmp_path: Path):
    file = tmp_path / "models.yaml"
    file.write_text("keys: [{name: ann, key: secret-of-ann-twenty, budget: {day: 5}}]\n")
    assert report(USAGE_DAYS=0, MODELS_FILE=file).of("usage")["state"] == "warn"
    assert report(MODELS_FILE=file).of("usage")["state"] == "ok"


@pytest.mark.services
def test_postgresql_answers_the_doctor(database_url: str):
    assert report(DATABASE_URL=database_url).of("usage")["detail"] == "kept in PostgreSQL, which answers"


# the server itself


@pytest.mark.parametrize(
    "settings",
    [
        {"PORT": "many"},
        {"API_KEYS": "a:one,a:two"},
        {"LOG_FILE": "/nowhere/at/all.log"},
        {"OPENAI_BASE_URL": "http://me:hidden-away@127.0.0.1/v1"},
    ],
)
def test_a_setting_that_cannot_be_read_is_2_and_the_first_finding(settings):
    found = report(**settings)
    assert (found.code, found.ok) == (2, False)
    assert found.findings[0]["what"] == "settings"
    assert next(iter(settings)) in found.findings[0]["detail"]
    assert "hidden-away" not in found.text


def test_a_setting_that_cannot_be_read_is_told_in_the_table_too():
    done = run(PORT="many")
    assert done.returncode == 2
    assert done.stdout.startswith("FAIL  settings           PORT is 'many'; allowed: ")


def test_who_may_call():
    public = report(HOST="0.0.0.0")
    assert public.code == 1
    assert "API_KEY" in public.of("callers")["mend"]
    assert "0.0.0.0" in public.of("callers")["detail"]
    assert report(HOST="0.0.0.0", ALLOW_ANONYMOUS="true").of("callers")["state"] == "warn"
    keyed = report(HOST="0.0.0.0", API_KEY=KEY)
    assert (keyed.of("callers")["state"], keyed.of("address")["state"]) == ("ok", "ok")
    assert KEY not in keyed.text


def test_where_it_listens_writes_and_how_much_it_serves(tmp_path):
    taken = tmp_path / "file"
    taken.touch()
    found = report(HOST="192.0.2.1", API_KEY=KEY, THREADS=2, DATA_DIR=taken, LOG_FILE=tmp_path / "a.log")
    states = {what: found.of(what)["state"] for what in ("address", "threads", "data", "log", "gunicorn")}
    assert states == {"address": "fail", "threads": "warn", "data": "warn", "log": "ok", "gunicorn": "ok"}
