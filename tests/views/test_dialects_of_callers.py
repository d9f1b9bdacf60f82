"""A dialect of callers is an encoder and a way to spell errors: an invented one, served beside OpenAI's."""

from typing import Any

import orjson
import pytest
from flask import Response
from flask.testing import FlaskClient

from app import create_app
from config import Settings
from core.errors import GatewayError, InvalidRequest
from core.events import Event, Text, Verbatim
from core.requests import ChatRequest
from schemas.chat.encode import ChunkEncoder
from schemas.chat.fold import fold
from schemas.errors import ErrorFormat
from tests.conftest import environment
from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.openai.server import OpenAIUpstream
from views.answers import StreamResponse
from views.blueprint import Api, ApiRequest
from views.delivery import Delivery


class WordEncoder:
    """An event: line for each text, whatever else is said."""

    heartbeat = b": still here\n\n"

    def encode(self, event: Event) -> bytes:
        assert not isinstance(event, Verbatim), "bytes of another dialect"
        return b"data: word\n\n" if isinstance(event, Text) else b""

    def end(self) -> bytes:
        return b"data: the end\n\n"

    def error(self, error: GatewayError) -> bytes:
        return b"data: " + error.message.encode() + b"\n\n"


def error_body(error: GatewayError, _request_id: str = "") -> dict[str, Any]:
    return {"type": "error", "why": error.message}


own = Api("own", __name__)


@own.post("/words", errors=ErrorFormat(error_body))
def words(incoming: ApiRequest) -> Response:
    if not incoming.body():
        raise InvalidRequest("There is no body.")
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    asked = ChatRequest(body, stream=True, passthrough=None)
    services = incoming.services
    route = services.catalogue.chat_route(asked)
    return StreamResponse(Delivery(incoming, route, services.relay.chat(asked), streams=True), WordEncoder())


@pytest.fixture
def client(upstream: OpenAIUpstream) -> FlaskClient:
    settings = environment(OPENAI_API_KEY="test-upstream-key", OPENAI_BASE_URL=f"{upstream.url}/v1", RETRIES=0)
    app = create_app(Settings.load({**settings, "API_KEY": "secret"}))
    app.register_blueprint(own)
    return app.test_client()


def ask(client: FlaskClient, body: bytes = b"{}", key: str = "secret") -> Any:
    return client.post("/words", data=body, headers={"Authorization": f"Bearer {key}"})


def test_the_encoder_spells_the_stream(client: FlaskClient, upstream: OpenAIUpstream) -> None:
    data = ask(client).data
    assert data.startswith(b"data: word\n\n")
    assert data.endswith(b"data: the end\n\n")


def test_the_encoder_spells_what_breaks_a_stream(client: FlaskClient, upstream: OpenAIUpstream) -> None:
    upstream.enqueue(ScriptedAnswer(texts=["Good", " morning"], fault=faults.cut))
    data = ask(client).data
    assert data.startswith(b"data: word\n\n")
    assert b"openai" in data.rpartition(b"data: ")[2]


@pytest.mark.parametrize(("body", "key", "status"), [(b"", "secret", 400), (b"{}", "wrong", 401)])
def test_the_route_spells_its_errors(client: FlaskClient, body: bytes, key: str, status: int) -> None:
    response = ask(client, body, key)
    assert response.status_code == status
    assert orjson.loads(response.data).keys() == {"type", "why"}


def test_an_error_of_the_upstream_is_spelled_so_too(client: FlaskClient, upstream: OpenAIUpstream) -> None:
    upstream.always(ScriptedAnswer(fault=faults.refused))
    response = ask(client)
    assert response.status_code == 502
    assert orjson.loads(response.data).keys() == {"type", "why"}


def test_bytes_of_one_dialect_are_never_sent_in_another() -> None:
    foreign = Verbatim(b"data: {}\n\n", "messages")
    with pytest.raises(TypeError):
        ChunkEncoder("model").encode(foreign)
    with pytest.raises(GatewayError):
        fold([foreign], "model")
