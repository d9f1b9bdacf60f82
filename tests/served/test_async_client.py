"""The openai package's asynchronous client against real gunicorn: many callers at once, each with their own answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from openai import APIError, AsyncOpenAI, AuthenticationError, NotFoundError

from tests.conftest import EVER, Served, served
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.answers import TEXTS
from tests.emulators.openai.server import embedding
from tests.emulators.scripted import NO_SUCH_MODEL
from tests.support.http import HI

CALLERS = 20
MODEL = "gpt-4o-mini"

Line = tuple[OpenAIUpstream, Served]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    log = tmp_path_factory.mktemp("served") / "log"
    with (
        OpenAIUpstream() as upstream,
        served(log, **upstream.settings(), API_KEY="own", RETRIES=0, THREADS=64) as app,
    ):
        yield upstream, app


@asynccontextmanager
async def client(line: Line, key: str = "own") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=line[1].url, api_key=key, max_retries=0, timeout=EVER) as made:
        yield made


async def streamed(caller: AsyncOpenAI) -> str:
    stream = await caller.chat.completions.create(model=MODEL, messages=HI, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def whole(caller: AsyncOpenAI) -> str | None:
    answer = await caller.chat.completions.create(model=MODEL, messages=HI)
    return answer.choices[0].message.content


def test_many_callers_at_once(line: Line) -> None:
    line[0].always(ScriptedAnswer(frame_delay=0.01))

    async def all_of_them() -> list[str | None]:
        async with client(line) as caller:
            return await asyncio.gather(*[ask(caller) for ask in (streamed, whole) for _ in range(CALLERS)])

    assert asyncio.run(all_of_them()) == ["".join(TEXTS)] * 2 * CALLERS


def test_models_and_embeddings(line: Line) -> None:
    async def ask() -> tuple[list[str], list[float]]:
        async with client(line) as caller:
            made = await caller.embeddings.create(model="text-embedding-3-small", input="hi")
            return [model.id async for model in await caller.models.list()], made.data[0].embedding

    models, vector = asyncio.run(ask())
    assert MODEL in models
    assert vector == embedding("hi")


def test_failures_are_the_packages_own(line: Line) -> None:
    async def ask() -> None:
        async with client(line, "wrong") as stranger:
            with pytest.raises(AuthenticationError):
                await whole(stranger)
        async with client(line) as caller:
            with pytest.raises(NotFoundError):
                await caller.chat.completions.create(model=NO_SUCH_MODEL, messages=HI)
            line[0].enqueue(ScriptedAnswer(fault=faults.cut))
            with pytest.raises(APIError, match="broke off"):
                await streamed(caller)

    asyncio.run(ask())
    assert line[1].log().count("outcome=failed") == 2


def test_a_caller_who_stops_listening_frees_the_upstream(line: Line) -> None:
    """N6: `aclose`, as LiveKit and Pipecat do when they are interrupted."""
    upstream, app = line
    count = len(upstream.received)
    upstream.enqueue(ScriptedAnswer(texts=["word "] * 3000, frame_delay=0.01))

    async def ask() -> None:
        async with client(line) as caller:
            stream = await caller.chat.completions.create(model=MODEL, messages=HI, stream=True)
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(ask())
    assert upstream.received[count].wait_closed(5)
    app.logged("outcome=hung_up")
