"""Signing in to OCI: each way, each way it can be set up wrong, and how it is kept up. Principals are emulated."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oci.auth.signers import OkeWorkloadIdentityResourcePrincipalSigner

from core.context import CallContext
from core.errors import Cancelled, GatewayError, UpstreamAuthFailed, UpstreamTimeout
from providers.oci import auth, credentials
from providers.oci.auth import Login
from providers.oci.credentials import Credential
from tests.conftest import until
from tests.emulators import ScriptedAnswer, certificate
from tests.emulators.oci.keys import (
    REGION,
    TENANCY,
    config,
    config_file,
    fingerprint,
    pem,
    private_key,
    session_file,
    token,
    write_profile,
)
from tests.emulators.oci.principals import POD_TOKEN, Surroundings
from tests.emulators.oci.server import OCIUpstream
from tests.support.http import HI

MODEL = "xai.grok-4"


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture
def ask(upstream: OCIUpstream, app_with: Callable[..., Any]) -> Callable[..., Any]:
    """ask(SETTING=value ...): a chat with an app of these settings, which no other knows."""

    def send(**settings: Any) -> Any:
        client = app_with(**{"OCI_SERVICE_ENDPOINT": upstream.url, "PROVIDER_NAME": "oci", "RETRIES": 0, **settings})
        return client.post("/v1/chat/completions", json={"model": MODEL, "messages": HI})

    return send


def credential(login: Login) -> Credential:
    return login.signature(CallContext())


def sign_in_error(login: Login) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        credential(login)
    return caught.value


# the ways


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_a_profile(ask: Callable[..., Any], tmp_path: Path, passphrase: str) -> None:
    """Region and tenancy are the profile's where the settings have none."""
    path = config_file(tmp_path, profile="WORK", passphrase=passphrase)
    assert ask(OCI_CONFIG_FILE=path, OCI_CONFIG_PROFILE="WORK").status_code == 200
    assert ask(OCI_CONFIG_FILE=path, OCI_CONFIG_FILE_KEY="WORK").status_code == 200


def test_key_content(upstream: OCIUpstream, tmp_path: Path, ask: Callable[..., Any]) -> None:
    """A key without a file of its own; and all of a profile without any file, from models.yaml."""
    one_line = pem(private_key()).replace("\n", "\\n")
    assert ask(OCI_CONFIG_FILE=write_profile(tmp_path, "DEFAULT", config(key_content=one_line))).status_code == 200
    given = {**config(), "key_content": "${MY_KEY}"}
    fields = "".join(f'    {name}: "{value}"\n' for name, value in given.items())
    models = tmp_path / "models.yaml"
    models.write_text(f"providers:\n  oci:\n{fields}")
    assert ask(MODELS_FILE=models, MY_KEY=pem(private_key())).status_code == 200


@pytest.mark.parametrize("auth_type", ["SESSION_TOKEN", "API_KEY"])
def test_a_session_token(ask: Callable[..., Any], tmp_path: Path, auth_type: str) -> None:
    """A profile with a token and no user means the token, whatever AUTH_TYPE says."""
    assert ask(OCI_CONFIG_FILE=session_file(tmp_path), AUTH_TYPE=auth_type).status_code == 200


def test_a_session_beside_a_default_profile(ask: Callable[..., Any], tmp_path: Path) -> None:
    """A profile has what DEFAULT has, and so a user whose key is not this one's."""
    path = session_file(tmp_path, profile="SESSION")
    path.write_text(f"[DEFAULT]\nuser=ocid1.user.oc1..other\nfingerprint=aa:bb\n{path.read_text()}")
    assert ask(OCI_CONFIG_FILE=path, OCI_CONFIG_PROFILE="SESSION").status_code == 200


def test_an_instance(monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any]) -> None:
    with Surroundings() as around:
        monkeypatch.setenv("OCI_METADATA_BASE_URL", around.metadata)
        there = functools.partial(
            credentials.InstancePrincipalsSecurityTokenSigner, federation_endpoint=around.federation
        )
        monkeypatch.setattr(credentials, "InstancePrincipalsSecurityTokenSigner", there)
        signature = credential(Login("oci", "INSTANCE_PRINCIPAL", "", ""))
        assert (signature.region, signature.tenancy) == (REGION, TENANCY)
        assert 3000 < signature.expires - time.time() < 4000
        assert ask(AUTH_TYPE="INSTANCE_PRINCIPAL").status_code == 200


@pytest.mark.parametrize("debug", [False, True])
def test_what_an_instances_sign_in_logs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """DEBUG_OCI_SDK: where it asked and what became of it; no key, no certificate, no token."""
    caplog.set_level("DEBUG", "oci")
    with Surroundings() as around:
        monkeypatch.setenv("OCI_METADATA_BASE_URL", around.metadata)
        there = functools.partial(
            credentials.InstancePrincipalsSecurityTokenSigner, federation_endpoint=around.federation
        )
        monkeypatch.setattr(credentials, "InstancePrincipalsSecurityTokenSigner", there)
        signature = credential(Login("oci", "INSTANCE_PRINCIPAL", "", "", debug=debug))
        assert (around.federation in caplog.text) == debug
    for secret in ("BEGIN", signature.signer.api_key[3:], pem(private_key("instance"))[60:120]):
        assert secret not in caplog.text


@pytest.mark.parametrize("by_path", [False, True])
def test_a_resource(monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any], tmp_path: Path, by_path: bool) -> None:
    held = {"RPST": token(private_key("resource"), res_tenant=TENANCY), "PRIVATE_PEM": pem(private_key("resource"))}
    for name, text in held.items():
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setenv(f"OCI_RESOURCE_PRINCIPAL_{name}", str(path) if by_path else text)
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_VERSION", "2.2")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_REGION", REGION)
    assert ask(AUTH_TYPE="RESOURCE_PRINCIPAL").status_code == 200


def test_a_pod(monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any]) -> None:
    class ServiceAccount:
        def get_sa_token(self) -> str:
            return POD_TOKEN

    with Surroundings(tls=True) as around:
        there = functools.partial(
            OkeWorkloadIdentityResourcePrincipalSigner,
            ServiceAccount(),
            str(certificate()[0]),
            "127.0.0.1",
            around.port,
            REGION,
        )
        monkeypatch.setattr(credentials, "get_oke_workload_identity_resource_principal_signer", there)
        assert ask(AUTH_TYPE="WORKLOAD_IDENTITY").status_code == 200
        assert around.issued == 1


# what can be wrong with it


def lacking(folder: Path, **changes: str) -> Login:
    return Login("oci", "API_KEY", str(config_file(folder, **changes)), "DEFAULT")


@pytest.mark.parametrize(
    ("login", "setting", "words"),
    [
        (lambda at: Login("oci", "API_KEY", str(at / "none"), "DEFAULT"), "OCI_CONFIG_FILE", "No such file"),
        (lambda at: Login("oci", "API_KEY", str(at), "DEFAULT"), "OCI_CONFIG_FILE", "Is a directory"),
        (lambda at: Login("oci", "API_KEY", str(config_file(at)), "WORK"), "OCI_CONFIG_PROFILE", "the file of"),
        (lambda at: lacking(at, user=""), "OCI_CONFIG_PROFILE", "lacks user"),
        (lambda at: lacking(at, key_file=""), "OCI_CONFIG_PROFILE", "lacks key_file"),
        (lambda at: lacking(at, key_file="/nowhere/key"), "OCI_CONFIG_PROFILE", "key_file that cannot be read"),
        (lambda at: lacking(at, key_file=__file__), "OCI_CONFIG_PROFILE", "no private key"),
        (lambda at: lacking(at, passphrase="x", pass_phrase="y"), "OCI_CONFIG_PROFILE", "wrong pass_phrase"),
        (lambda at: lacking(at, passphrase="x", pass_phrase=""), "OCI_CONFIG_PROFILE", "wrong pass_phrase"),
        (
            lambda at: lacking(at, fingerprint=fingerprint(private_key("another"))),
            "OCI_CONFIG_PROFILE",
            "fingerprint that is not its key's",
        ),
        (
            lambda at: Login("oci", "SESSION_TOKEN", str(session_file(at, seconds=-5)), "DEFAULT"),
            "OCI_CONFIG_PROFILE",
            "oci session authenticate",
        ),
        (
            lambda at: Login("oci", "SESSION_TOKEN", str(config_file(at)), "DEFAULT"),
            "OCI_CONFIG_PROFILE",
            "lacks security_token_file",
        ),
        (lambda at: Login("oci", "API_KEY", "", "", {"tenancy": "t"}), "models.yaml", "lacks user, fingerprint"),
        (lambda _: Login("oci", "RESOURCE_PRINCIPAL", "", ""), "AUTH_TYPE", "RESOURCE_PRINCIPAL"),
        (lambda _: Login("oci", "WORKLOAD_IDENTITY", "", ""), "AUTH_TYPE", "WORKLOAD_IDENTITY"),
    ],
)
def test_what_is_set_up_wrong_is_named(
    tmp_path: Path, login: Callable[[Path], Login], setting: str, words: str
) -> None:
    """Our configuration, so never the caller's 4xx; the setting to mend; no path and nothing of a key."""
    error = sign_in_error(login(tmp_path))
    assert isinstance(error, UpstreamAuthFailed)
    assert (error.status, error.param) == (502, setting)
    assert words in error.message
    assert setting in error.message
    assert str(tmp_path) not in error.message
    assert "PRIVATE" not in error.message + error.log


def test_an_instance_principal_off_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at once, not after the SDK's own minutes of trying."""
    monkeypatch.setenv("OCI_METADATA_BASE_URL", "http://127.0.0.1:9/opc/v2")
    began = time.monotonic()
    error = sign_in_error(Login("oci", "INSTANCE_PRINCIPAL", "", ""))
    assert (error.param, error.status) == ("AUTH_TYPE", 502)
    assert time.monotonic() - began < 2


def test_what_is_mended_works_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config"
    login = Login("oci", "API_KEY", str(path), "DEFAULT")
    assert "No such file" in sign_in_error(login).message
    assert config_file(tmp_path) == path
    assert credential(login).tenancy == TENANCY


def test_a_key_that_oci_does_not_know(ask: Callable[..., Any], tmp_path: Path) -> None:
    """Theirs is a 401; the caller's own key is not at fault."""
    stranger = {"key_content": pem(private_key("another")), "fingerprint": fingerprint(private_key("another"))}
    response = ask(OCI_CONFIG_FILE=write_profile(tmp_path, "DEFAULT", config(**stranger)))
    assert response.status_code == 502
    assert response.get_json()["error"]["code"] == "upstream_authentication"


# how it is kept up


def test_one_sign_in_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is read before the first request, and then once for all that wait."""
    count = 0
    by_profile = auth.by_profile

    def slowly(*arguments: Any, **named: Any) -> Credential:
        nonlocal count
        count += 1
        time.sleep(0.1)
        return by_profile(*arguments, **named)

    monkeypatch.setattr(auth, "by_profile", slowly)
    login = Login("oci", "API_KEY", str(config_file(tmp_path)), "DEFAULT")
    assert count == 0
    found: list[Credential] = []
    threads = [threading.Thread(target=lambda: found.append(credential(login))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (count, len({id(signature) for signature in found})) == (1, 1)
    assert credential(login) is found[0]


def test_a_token_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    login = Login("oci", "SESSION_TOKEN", str(session_file(tmp_path)), "DEFAULT")
    first = credential(login)
    assert credential(login) is first
    (tmp_path / "token").write_text(token(private_key("session"), 7200))
    second = credential(login)
    assert second.expires > first.expires + 3000
    (tmp_path / "token").write_text("half a tok")
    assert credential(login) is second, "what holds is used while the new one is being written"


def test_a_token_is_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, while the old one still signs."""
    made: list[Credential] = []

    def by_principal(*_: object, **__: object) -> Credential:
        now = time.time()
        expires = now + (200 if not made else 4000)
        made.append(Credential(object(), expires=expires, since=now - 2000))
        return made[-1]

    monkeypatch.setattr(auth, "by_principal", by_principal)
    login = Login("oci", "INSTANCE_PRINCIPAL", "", "")
    first = credential(login)
    assert first is made[0]
    assert credential(login) is first or len(made) > 1
    until(lambda: len(made) > 1, "the next token")
    until(lambda: credential(login) is made[1], "it to be used")
    assert len(made) == 2


def test_a_token_that_lives_shortly_is_not_renewed_all_the_time() -> None:
    now = time.time()
    assert Credential(object(), expires=now + 100, since=now).holds(auth.AHEAD_SECONDS)
    assert not Credential(object(), expires=now + 20, since=now - 80).holds(auth.AHEAD_SECONDS)


def test_a_token_that_is_refused_is_renewed_once(
    upstream: OCIUpstream, ask: Callable[..., Any], tmp_path: Path
) -> None:
    path = session_file(tmp_path)
    upstream.enqueue(ScriptedAnswer(status=401))
    before = len(upstream.received)
    assert ask(OCI_CONFIG_FILE=path).status_code == 200
    assert len(upstream.received) == before + 2
    upstream.enqueue(ScriptedAnswer(status=401), ScriptedAnswer(status=401))
    assert ask(OCI_CONFIG_FILE=path).status_code == 502
    assert len(upstream.received) == before + 4


def test_who_waits_for_a_sign_in_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK asks of the network cannot be woken; a request that waits for it can."""
    go = threading.Event()

    def by_principal(*_: object, **__: object) -> Credential:
        go.wait(20)
        raise credentials.credential_error("oci", "too late.", "AUTH_TYPE")

    monkeypatch.setattr(auth, "by_principal", by_principal)
    login = Login("oci", "INSTANCE_PRINCIPAL", "", "")
    call = CallContext()
    left = time.monotonic() + 0.2
    threading.Timer(0.2, call.cancel).start()
    with pytest.raises(Cancelled):
        login.signature(call)
    assert 0 <= time.monotonic() - left < 1
    hurried = CallContext()
    hurried.first_event_by = time.monotonic() + 0.1
    with pytest.raises(UpstreamTimeout):
        login.signature(hurried)
    go.set()
