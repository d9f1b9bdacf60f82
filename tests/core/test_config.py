"""Settings: where they come from, what is allowed, and what is said about the rest."""

import os
import re
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest

import config
from app import create_app
from config import SettingError, Settings, setting_fields
from tests.conftest import environment
from tests.support.http import GUNICORN, HI, fails_to_start

NUMBERS = [each for each in setting_fields() if each.type in (int, float)]
CHOICES = [each for each in setting_fields() if each.metadata["choices"]]
TRUE = ("true", "True", "TRUE", "1", "yes", "Yes", "on", "ON")
FALSE = ("false", "False", "FALSE", "0", "no", "No", "off", "OFF")
LOOPBACK = ("127.0.0.1", "127.0.0.53", "localhost", "::1", "[::1]", "unix:/run/thinkline.sock", "/run/thinkline.sock")
PUBLIC = (
    "0.0.0.0",
    "::",
    "[::]",
    "",
    "192.168.1.20",
    "10.0.0.1",
    "169.254.1.1",
    "203.0.113.9",
    "2001:db8::1",
    "example.com",
    "localhost.example.com",
    "127.0.0.1.nip.io",
)
BAD_STARTS = {
    "a word for a number": ({"PORT": "eighty"}, ["PORT", "'eighty'", "whole number", "65535"]),
    "a public address without a key": ({"HOST": "0.0.0.0"}, ["0.0.0.0", "API_KEY", "ALLOW_ANONYMOUS"]),
    "an unknown provider": ({"PROVIDER_NAME": "nobody"}, ["PROVIDER_NAME", "'nobody'", "openai", "demo"]),
    "a provider without its key": ({"PROVIDER_NAME": "groq"}, ["PROVIDER_NAME", "GROQ_API_KEY"]),
    "two keys of one name": ({"API_KEYS": "me:first-key,me:second-key"}, ["API_KEYS", "'me'"]),
    "no boolean": ({"DEBUG": "maybe"}, ["DEBUG", "'maybe'", "true", "false"]),
    "a log in no folder": ({"LOG_FILE": "/nowhere/at/all.log"}, ["LOG_FILE", "/nowhere/at"]),
}


def load(**variables: object) -> Settings:
    return Settings.load(environment(**variables))


def setting_error(**variables: object) -> str:
    with pytest.raises(SettingError) as caught:
        load(**variables)
    return str(caught.value)


def for_each(settings: list[Field[Any]]) -> Any:
    return pytest.mark.parametrize("setting", settings, ids=lambda each: each.name)


def variable(setting: Field[Any]) -> str:
    return setting.name.upper()


# where a value comes from


def test_the_environment_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("PORT=9001\nTHREADS=9\n")
    settings = load(ENV_FILE=file, PORT=9002)
    assert (settings.port, settings.threads, settings.workers) == (9002, 9, 1)


def test_the_file_beside_the_code_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("PORT=9001\n")
    (tmp_path / "other").write_text("PORT=9002\n")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    assert Settings.load({}).port == 9001
    assert Settings.load({"ENV_FILE": ""}).port == 9001
    assert Settings.load({"ENV_FILE": str(tmp_path / "other")}).port == 9002


def test_no_file_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "ROOT", tmp_path)
    assert Settings.load({}) == Settings()


@pytest.mark.parametrize("nothing", ["", " ", "\t"], ids=["empty", "space", "tab"])
def test_an_empty_value_is_an_unset_one(nothing: str) -> None:
    everything = {variable(each): nothing for each in setting_fields()}
    assert load(**everything, OPENAI_API_KEY=nothing) == Settings()


def test_an_empty_variable_does_not_hide_the_file(tmp_path: Path) -> None:
    """Compose passes `API_KEY=` on where its own variable is unset: the key in .env must still hold."""
    file = tmp_path / "file"
    file.write_text("API_KEY=from-the-file\nPORT=9001\n")
    settings = load(ENV_FILE=file, API_KEY="", PORT=" ")
    assert (settings.api_key, settings.port) == ("from-the-file", 9001)


def test_a_file_as_editors_write_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("# mine\n\nexport PORT=9001\nAPI_KEY='with # and spaces'\r\nHOST=\"::1\"\nREASONING=show # aloud\n")
    settings = load(ENV_FILE=file)
    assert (settings.port, settings.api_key, settings.host) == (9001, "with # and spaces", "::1")
    assert settings.reasoning == "show"


def test_a_byte_order_mark_hides_no_setting(tmp_path: Path) -> None:
    """Windows' editors put one first: the line that it stands in must not be lost, least of all a key's."""
    file = tmp_path / "file"
    file.write_bytes(b"\xef\xbb\xbfAPI_KEY=my-own-key\nPORT=9001\n")
    settings = load(ENV_FILE=file)
    assert settings.port == 9001
    assert settings.api_key == "my-own-key"


@pytest.mark.parametrize("content", [bytes(range(256)), "API_KEY=x\n".encode("utf-16")], ids=["binary", "UTF-16"])
def test_a_file_that_is_no_text_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.env"
    file.write_bytes(content)
    assert "mine.env cannot be read" in setting_error(ENV_FILE=file)


# what a value may be


@pytest.mark.parametrize("text", TRUE)
def test_every_spelling_of_true(text: str) -> None:
    assert load(DEBUG=text, ALLOW_ANONYMOUS=f" {text} ").debug is True
    assert load(ALLOW_ANONYMOUS=f" {text} ").allow_anonymous is True


@pytest.mark.parametrize("text", FALSE)
def test_every_spelling_of_false(text: str) -> None:
    """DEBUG="false" was once read as true."""
    assert load(DEBUG=text).debug is False
    assert load(DEBUG=text).level == "INFO"
    assert load(ALLOW_ANONYMOUS=text).allow_anonymous is False


@pytest.mark.parametrize("text", ["maybe", "2", "-1", "y", "t", "none", "truee", "wahr"])
def test_no_other_text_is_a_boolean(text: str) -> None:
    said = setting_error(ALLOW_ANONYMOUS=text)
    assert said == f"ALLOW_ANONYMOUS is {text!r}; allowed: true or false, 1 or 0, yes or no, on or off."


@for_each(NUMBERS)
@pytest.mark.parametrize("text", ["many", "1,5", "0x10", "--1", "nan", "inf", "-inf", "1 2"])
def test_what_is_no_number(setting: Field[Any], text: str) -> None:
    said = setting_error(**{variable(setting): text})
    assert said.startswith(f"{variable(setting)} is {text!r}; allowed: a ")
    assert "number" in said


@for_each([each for each in NUMBERS if each.type is int])
def test_a_whole_number_has_no_fraction(setting: Field[Any]) -> None:
    assert "a whole number" in setting_error(**{variable(setting): "2.5"})


@for_each(NUMBERS)
def test_bounds_hold_and_are_told(setting: Field[Any]) -> None:
    facts = setting.metadata
    name = variable(setting)
    for bound, beyond, words in ((facts["least"], -1, "from"), (facts["most"], 1, "up to")):
        if bound is None:
            continue
        assert getattr(load(**{name: bound}), setting.name) == bound
        said = setting_error(**{name: bound + beyond})
        assert f" {words} {bound}" in said
        assert str(bound + beyond) in said
    assert facts["least"] is not None, "a number without a lower bound takes nonsense"


@for_each(CHOICES)
def test_choices_in_any_case_and_no_others(setting: Field[Any]) -> None:
    for choice in setting.metadata["choices"]:
        for text in (choice, choice.lower(), choice.upper(), choice.title()):
            assert getattr(load(**{variable(setting): text}), setting.name) == choice
    said = setting_error(**{variable(setting): "loud"})
    assert said == f"{variable(setting)} is 'loud'; allowed: {', '.join(setting.metadata['choices'])}."


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, "INFO"),
        ({"LOG_LEVEL": "warning"}, "WARNING"),
        ({"DEBUG": "1"}, "DEBUG"),
        ({"TRACE": "yes"}, "TRACE"),
        ({"TRACE": "on", "DEBUG": "on"}, "TRACE"),
        ({"DEBUG": "true", "LOG_LEVEL": "ERROR"}, "DEBUG"),
        ({"DEBUG": "false", "TRACE": "off", "LOG_LEVEL": "none"}, "NONE"),
    ],
)
def test_the_level_and_its_older_names(variables: dict[str, str], level: str) -> None:
    """DEBUG="false" was once read as true."""
    assert load(**variables).level == level


@pytest.mark.parametrize("text", ["/api", "/api/", "/api/v1", "/v1.0", "/a-b_c~d", "/"])
def test_a_prefix_is_a_path(text: str) -> None:
    prefix = load(API_ROUTE_PREFIX=text).api_route_prefix.rstrip("/")
    client = create_app(load(API_ROUTE_PREFIX=text, DEMO_PACE_MS=0)).test_client()
    assert client.post(f"{prefix}/chat/completions", json={"messages": HI}).status_code == 200


@pytest.mark.parametrize("text", ["api", "http://example.com/v1", "/a b", "/a?b", "/<path:x>", "//", "/ü", "/a//b"])
def test_what_is_no_prefix(text: str) -> None:
    said = setting_error(API_ROUTE_PREFIX=text)
    assert said.startswith(f"API_ROUTE_PREFIX is {text!r}; allowed are paths")


def test_origins_are_a_list() -> None:
    origins = load(ALLOWED_ORIGINS=" https://a.example, https://b.example:8443 ,, ").allowed_origins
    assert origins == ("https://a.example", "https://b.example:8443")


def test_a_log_file_that_is_a_folder_stops_the_start(tmp_path: Path) -> None:
    assert "LOG_FILE" in setting_error(LOG_FILE=tmp_path)


# keys


def test_one_key_is_any_text() -> None:
    """Also what would mean something in API_KEYS."""
    for key in ("simple", "a,b", "name:secret", "a:b,c:d", "ü and spaces", "sk-1234", "'quoted'", "0", "false"):
        assert load(API_KEY=key).keys == {"default": key}


def test_several_keys_named_and_not() -> None:
    keys = load(API_KEYS="plain-one, phone:second-key ,plain-three,web-2:with:colons").keys
    assert keys == {"key1": "plain-one", "phone": "second-key", "key3": "plain-three", "web-2": "with:colons"}


def test_the_keys_of_all_spellings_are_joined() -> None:
    """API_KEY, DEFAULT_API_KEYS and ACCESS_API_KEYS are names of other gateways for the same setting."""
    settings = load(API_KEY="a-key", API_KEYS="b-key", ACCESS_API_KEYS="c-key", DEFAULT_API_KEYS="d-key,e:e-key")
    assert set(settings.keys.values()) == {"a-key", "b-key", "c-key", "d-key", "e-key"}
    for name in ("API_KEYS", "ACCESS_API_KEYS", "DEFAULT_API_KEYS"):
        assert list(load(**{name: "one,two"}).keys.values()) == ["one", "two"]


def test_no_key_is_there_by_default() -> None:
    """A default key that everybody knows protects nothing."""
    assert load().keys == {}


@pytest.mark.parametrize("text", ["me:first,me:second", "default:other"])
def test_a_name_stands_for_one_key(text: str) -> None:
    settings = load(API_KEY="the-default", API_KEYS=text)
    with pytest.raises(SettingError, match="API_KEYS has two keys of the name") as caught:
        _ = settings.keys
    assert not re.search("first|second|other|the-default", str(caught.value))


def test_secrets_are_not_in_the_settings_repr() -> None:
    """A key that is printed at start ends in a log."""
    shown = repr(load(API_KEY="secret-a", API_KEYS="phone:secret-b,secret-c", OPENAI_API_KEY="secret-d"))
    assert "secret-" not in shown
    assert "port=8000" in shown


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENAI_API_KEY": "sk secret"},
        {"OPENAI_API_KEY": "sk-secret-ü"},
        {"AZURE_OPENAI_API_KEY": "sk secret", "AZURE_OPENAI_ENDPOINT": "https://azure.example"},
        {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "https://me:secret@proxy.example/v1"},
        {"API_KEYS": "me:secret-1,me:secret-2"},
    ],
    ids=["spaces", "not ASCII", "another name", "in an address", "callers' keys"],
)
def test_secrets_are_not_in_what_is_said(variables: dict[str, str]) -> None:
    """What cannot be used is named, and not shown."""
    with pytest.raises(SettingError) as caught:
        create_app(load(**variables))
    said = str(caught.value)
    assert "secret" not in said
    assert any(name in said for name in variables), said


# who may be served


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_needs_no_key(host: str) -> None:
    """Without a key, an address of this machine is served."""
    Settings().require_key_if_public(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_another_address_needs_one(host: str) -> None:
    """A tunnel or a bind never publishes somebody's account."""
    with pytest.raises(SettingError, match=r"API_KEY.*ALLOW_ANONYMOUS=true") as caught:
        Settings().require_key_if_public(host)
    assert repr(host) in str(caught.value)
    Settings(api_key="mine").require_key_if_public(host)
    Settings(api_keys=("mine",)).require_key_if_public(host)
    Settings(allow_anonymous=True).require_key_if_public(host)


@pytest.mark.thorough
@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "python app.py"])
@pytest.mark.parametrize("case", BAD_STARTS)
def test_a_bad_setting_stops_the_start_in_one_line(command: tuple[str, ...], case: str) -> None:
    """A value that cannot be read stops the start, and is not replaced by the default."""
    settings, expected = BAD_STARTS[case]
    said = fails_to_start(*command, **settings)
    assert all(each in said for each in expected), said
    assert "-key'" not in said


@pytest.mark.thorough
@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "python app.py"])
def test_a_broken_file_stops_the_start_in_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "broken.env"
    file.write_bytes(bytes(range(256)))
    assert "broken.env cannot be read" in fails_to_start(*command, ENV_FILE=file)


# secrets in files


SECRETS = [each for each in setting_fields() if each.metadata["secret"]]


@for_each(SECRETS)
def test_every_secret_setting_may_stand_in_a_file(setting: Field[Any], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://:pass@127.0.0.1:6379/0\n")
    for name in (variable(setting), *setting.metadata["also"]):
        settings = load(**{f"{name}_FILE": file})
        assert getattr(settings, setting.name) == getattr(load(**{name: file.read_text()}), setting.name)
        assert settings.variables[name] == "redis://:pass@127.0.0.1:6379/0"


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "MINE_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "HTTPS_PROXY",
        "all_proxy",
    ],
)
def test_so_may_an_upstreams(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("a-secret")
    settings = load(**{f"{name}_FILE": file})
    assert settings.variables[name] == "a-secret"
    assert "a-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("key", "key"),
        ("key\n", "key"),
        ("key\r\n", "key"),
        ("\ufeffkey\n", "key"),
        (" key with #, 'quotes' and ü ", " key with #, 'quotes' and ü "),
        ("$HOME ${KEY} \\n\n", "$HOME ${KEY} \\n"),
    ],
)
def test_a_secret_is_what_the_file_holds(content: str, value: str, tmp_path: Path) -> None:
    """Nothing is expanded, and one newline at the end, which editors and echo add, is left out."""
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    assert load(API_KEY_FILE=file).api_key == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b" \n", "is empty"),
        (b"a-key\nanother\n", "one line of text"),
        (b"a-key\n\n", "one line of text"),
        (b"a-key\0", "one line of text"),
        (b"a-key\xff", "not UTF-8"),
        (b"a-key" * 1_000_000, "one line of text"),
    ],
)
def test_a_file_that_holds_no_secret_stops_the_start(content: bytes, said: str, tmp_path: Path) -> None:
    """A key that is empty by mistake must not open the service."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    found = setting_error(API_KEY_FILE=file)
    assert found.startswith(f"API_KEY_FILE is '{file}', which ")
    assert said in found
    assert "a-key" not in found


@pytest.mark.parametrize("kind", ["nothing", "a folder", "a pipe"])
def test_a_secret_that_cannot_be_read_stops_the_start(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    assert setting_error(STATE_URL_FILE=path).startswith(f"STATE_URL_FILE is '{path}', which cannot be read: ")
    env = tmp_path / "mine.env"
    env.write_text(f"\nOPENAI_API_KEY_FILE={path}\n")
    assert setting_error(ENV_FILE=env).startswith(f"OPENAI_API_KEY_FILE is '{path}' ({env}, line 2), which cannot")


@pytest.mark.parametrize("text", ["sk-secret", "redis://:secret@10.0.0.1:6379/0", "ab/secret=="])
def test_a_secret_instead_of_its_file_is_not_shown(text: str) -> None:
    said = setting_error(STATE_URL_FILE=text)
    assert said.startswith("STATE_URL_FILE is (not shown), which cannot be read: ")
    assert "secret" not in said


def test_the_environment_beats_the_file_also_with_secrets_in_files(tmp_path: Path) -> None:
    secret, env = tmp_path / "secret", tmp_path / "mine.env"
    secret.write_text("from-the-secret\n")
    env.write_text("API_KEY=from-env-file\n")
    assert load(ENV_FILE=env, API_KEY_FILE=secret).api_key == "from-the-secret"
    env.write_text(f"API_KEY_FILE={secret}\n")
    assert load(ENV_FILE=env, API_KEY="from-the-environment").api_key == "from-the-environment"
    assert load(ENV_FILE=env, API_KEY="").api_key == "from-the-secret"


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    secret, env = tmp_path / "secret", tmp_path / "mine.env"
    secret.write_text("one")
    assert setting_error(API_KEY="two", API_KEY_FILE=secret) == (
        "API_KEY and API_KEY_FILE are both set; unset one of them."
    )
    env.write_text(f"API_KEY=two\nAPI_KEY_FILE={secret}\n")
    assert f"both set ({env}, line 2)" in setting_error(ENV_FILE=env)


def test_other_files_are_no_secrets(tmp_path: Path) -> None:
    """What ends in _FILE already, and what Amazon's SDK reads itself."""
    names = ("MODELS_FILE", "LOG_FILE", "OCI_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    variables = dict.fromkeys(names, tmp_path / "nothing")
    settings = load(**variables)
    assert not {name.removesuffix("_FILE") for name in names} & settings.variables.keys()


def test_a_reload_reads_the_secret_again(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for key in ("first", "second"):
        file.write_text(key)
        assert load(API_KEY_FILE=file).api_key == key
