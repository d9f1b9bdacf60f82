"""Agents of models.yaml through gunicorn and OpenAI's own client: they remember over workers and a restart; and the
server of the package `bedrock-agentcore` as the app behind a runtime.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.conftest import Served, served, until
from tests.emulators import Call, ScriptedAnswer
from tests.emulators.bedrock.agentcore import ACCESS_KEY, RUNTIME, SECRET, RuntimeUpstream
from tests.emulators.bedrock.guardrails import GUARDRAIL
from tests.emulators.bedrock.server import BedrockUpstream
from tests.emulators.dialects import AGENTS, Dialect
from tests.emulators.oci.agents import AgentUpstream
from tests.emulators.platforms.retell import RetellCall
from tests.served.test_bedrock_served import Only, both
from tests.support.callers import AT_ONCE, Caller
from tests.support.frames import chat_body, error, payloads, post, streamed_text


@contextmanager
def running(dialect: Dialect, upstream: Any, folder: Path, **settings: object) -> Iterator[Served]:
    file = folder / "models.yaml"
    models = [{"name": "agent", "provider": dialect.name}]
    file.write_text(yaml.safe_dump({"providers": dict(dialect.providers(upstream)), "models": models}))
    data = {"MODELS_FILE": file, "DATA_DIR": folder / "data", "THREADS": 8, **settings}
    with served(folder / "log", **dialect.settings(upstream), **data) as app:
        yield app


@pytest.mark.parametrize("dialect", AGENTS, ids=str)
def test_an_agent_remembers_over_workers_and_a_restart(dialect: Dialect, tmp_path: Path) -> None:
    """Each turn is answered by another process, and all are one session's."""
    messages: list[Any] = []
    with dialect.upstream() as upstream:

        def say(app: Served, text: str) -> None:
            messages.append({"role": "user", "content": text})
            answer = app.client().chat.completions.create(model="agent", messages=messages)
            messages.append(answer.choices[0].message.model_dump(exclude_none=True))

        with running(dialect, upstream, tmp_path, WORKERS=2) as app:
            for which, text in enumerate(("My name is Ada.", "I live in Bern.")):
                with Only(app, which):
                    say(app, text)
        with running(dialect, upstream, tmp_path, WORKERS=2) as app:
            both(app)
            say(app, "Who am I?")
        (session,) = upstream.sessions.values()
        assert [text in json.dumps(session) for text in ("Ada", "Bern", "Who am I?")] == [True] * 3
        assert "conversation so far" not in json.dumps(session)


def test_a_caller_who_leaves_while_a_session_is_made_frees_it(tmp_path: Path) -> None:
    dialect = next(each for each in AGENTS if each.upstream is AgentUpstream)
    with AgentUpstream() as upstream, running(dialect, upstream, tmp_path) as app:
        assert post(app.port, chat_body(model="agent"))[0] == 200  # what is made once is there already
        upstream.session_delay = 30.0
        count = len(upstream.received)
        caller = Caller(app.port, chat_body(model="agent", stream=True))
        until(lambda: len(upstream.received) > count, "the session to be asked for")
        left = caller.leaves()
        assert upstream.received[count].wait_closed(10) - left < AT_ONCE


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_caller_who_leaves_while_a_text_is_checked_frees_the_guardrail(side: str, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    guardrail = {"provider": "bedrock-models", "id": GUARDRAIL, "deadline_ms": 30_000, "sides": [side]}
    file.write_text(yaml.safe_dump({"models": [{"name": "talk", "provider": "demo", "guardrail": guardrail}]}))
    with BedrockUpstream() as amazon, served(tmp_path / "log", **amazon.settings, MODELS_FILE=file) as app:
        assert post(app.port, chat_body("hi", model="talk"))[0] == 200  # what is made once is there already
        amazon.guardrails.delay = 30.0
        count = len(amazon.received)
        caller = Caller(app.port, chat_body("hi", model="talk", stream=True))
        until(lambda: len(amazon.received) > count, "a check")
        left = caller.leaves()
        assert amazon.received[count].wait_closed(10) - left < AT_ONCE


CALLERS = [each for each in AGENTS if each.upstream is not RuntimeUpstream]
"""Agents that call functions of the caller's."""


@pytest.mark.parametrize("dialect", CALLERS, ids=str)
def test_an_agents_own_functions_end_and_transfer_a_phone_call(dialect: Dialect, tmp_path: Path) -> None:
    with dialect.upstream() as upstream, running(dialect, upstream, tmp_path) as app:
        for name, arguments, done in (
            ("transfer_call", '{"number": "+14155550100"}', {"transfer_number": "+14155550100"}),
            ("end_call", "{}", {"end_call": True}),
        ):
            upstream.enqueue(ScriptedAnswer(texts=["Goodbye."], calls=[Call("c1", name, [arguments])]))
            address = f"ws://127.0.0.1:{app.port}/v1/retell"
            with RetellCall(address, f"call_{name}", "?model=agent") as call:
                call.begins()
                text, frame = call.hears(call.says("That is all."))
            assert "Goodbye." in text
            assert done.items() <= frame.items()


# The real server of a runtime


class AgentApp:
    """An app of `bedrock_agentcore`, served by uvicorn as its own `run` does, below the path that Amazon gives it."""

    def __init__(self) -> None:
        import uvicorn  # noqa: PLC0415 - with bedrock_agentcore, for this test alone
        from bedrock_agentcore import BedrockAgentCoreApp  # noqa: PLC0415
        from starlette.applications import Starlette  # noqa: PLC0415
        from starlette.routing import Mount  # noqa: PLC0415

        agent = BedrockAgentCoreApp()
        self.memory: dict[str, list[str]] = {}
        self.ended = threading.Event()

        @agent.entrypoint
        def invoke(payload: dict[str, Any], context: Any) -> Any:
            prompt = payload["prompt"]
            self.memory.setdefault(context.session_id, []).append(prompt)
            if prompt == "fail":
                raise ValueError("I fell over.")
            if prompt == "whole":
                return {"result": {"role": "assistant", "content": [{"text": "All at once."}]}}
            return self._words(prompt, context.session_id)

        front = Starlette(routes=[Mount("/runtimes/{arn:path}", app=agent)])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(front, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    async def _words(self, prompt: str, session: str) -> AsyncIterator[str]:
        try:
            yield f"{len(self.memory[session])}: "
            if prompt == "break":
                raise ValueError("I fell over.")
            for _ in range(600 if prompt == "long" else 1):
                yield prompt
                await asyncio.sleep(0.05 if prompt == "long" else 0)
        finally:
            self.ended.set()

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started, "uvicorn to serve")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[AgentApp, Served]]:
    file = tmp_path / "models.yaml"
    provider = {"kind": "agentcore-runtime", "arn": RUNTIME}
    with AgentApp() as agent:
        models = [{"name": "agent", "provider": "app"}]
        file.write_text(yaml.safe_dump({"providers": {"app": {**provider, "base_url": agent.url}}, "models": models}))
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        with served(tmp_path / "log", MODELS_FILE=file, DATA_DIR=tmp_path / "data", THREADS=8, **keys) as app:
            yield agent, app


def ask(app: Served, text: str, stream: bool = True) -> tuple[int, Any, bytes]:
    return post(app.port, chat_body(text, model="agent", stream=stream, session_id="call-1"))


@pytest.mark.services
def test_the_real_server_of_a_runtime_is_understood(real: tuple[AgentApp, Served]) -> None:
    """Words as they are yielded, one value, what an app raises before its first word and after it; one session."""
    agent, app = real
    status, _, data = ask(app, "hello")
    assert (status, streamed_text(data)) == (200, "1: hello")
    status, _, data = ask(app, "whole", stream=False)
    assert json.loads(data)["choices"][0]["message"]["content"] == "All at once."
    status, _, data = ask(app, "break")
    assert (status, error(payloads(data)[-1].encode())["code"]) == (200, "upstream_error")
    assert b"fell over" not in data
    status, _, data = ask(app, "fail")
    assert (status, error(data)["code"]) == (502, "upstream_error")
    (memory,) = [each for each in agent.memory.values() if len(each) > 1]
    assert memory[:3] == ["hello", "whole", "break"]
    assert sum(each.count("fail") for each in agent.memory.values()) == 1


@pytest.mark.services
def test_a_hang_up_ends_the_app_behind_a_runtime(real: tuple[AgentApp, Served]) -> None:
    agent, app = real
    caller = Caller(app.port, chat_body("long", model="agent", stream=True))
    caller.hears(b"long")
    caller.leaves()
    assert agent.ended.wait(10)
