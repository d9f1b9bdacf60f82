"""An hour's conversation that wanders between vendors by fallbacks, with tools and interruptions: none refuses it.

Each vendor is emulated, in its own dialect, and refuses what the real one refuses; the clock of what is kept is fast.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from app import create_app
from config import Settings
from storage import key_value as state
from tests.conftest import environment
from tests.emulators import Call, ScriptedAnswer
from tests.emulators.answers import Call as Use
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import HAIKU, BedrockUpstream
from tests.emulators.dialects import DIALECTS, Dialect
from tests.emulators.scripted import Scripted
from tests.support.conversations import TIME, WEATHER
from tests.support.frames import completion, streamed_calls, streamed_text

pytestmark = pytest.mark.slow

TURNS, SECONDS = 40, 90.0
NAMES = ("openai", "anthropic", "gemini", "cohere", "oci")
VENDORS: list[Dialect] = [next(each for each in DIALECTS if each.name == name) for name in NAMES]
ARGUMENTS = {"get_weather": '{"city": "Bern"}', "get_time": '{"zone": "CET"}'}


class Vendors:
    """Five vendors with dialects of their own, OpenAI, and a model whose fallbacks they are."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.now = 0.0
        self._bedrock = stack.enter_context(BedrockUpstream())
        self._others: list[Scripted] = [stack.enter_context(each.upstream()) for each in VENDORS]
        self.count = len(VENDORS) + 1
        rows = [{"name": each.name, "provider": each.name, "model": each.model} for each in VENDORS]
        rows.append({"name": "bedrock", "provider": "bedrock-models", "model": HAIKU})
        rows[0]["fallbacks"] = [row["name"] for row in rows[1:]]
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump({"models": rows}))
        values = {"MODELS_FILE": file, "DATA_DIR": folder, "RETRIES": 0, "BREAKER_FAILURES": 10_000}
        for each, upstream in zip(VENDORS, self._others, strict=True):
            values |= each.settings(upstream)
        self.client = create_app(
            Settings.load(environment(**values, **self._bedrock.settings, LOG_LEVEL="NONE"))
        ).test_client()

    def answer(self, vendor: int, texts: list[str], calls: list[tuple[str, str]]) -> None:
        """Only this vendor answers from now on, and so."""
        for at, upstream in enumerate(self._others):
            given = [Call(identifier, name, [ARGUMENTS[name]]) for identifier, name in calls]
            upstream.always(ScriptedAnswer(texts=texts, calls=given) if at == vendor else ScriptedAnswer(status=503))
        uses = [Use(identifier, name, [ARGUMENTS[name]]) for identifier, name in calls]
        here = vendor == len(self._others)
        self._bedrock.always(Turn(texts=texts, calls=uses) if here else Turn(exception="ServiceUnavailableException"))

    def ask(self, messages: list[Any], stream: bool) -> dict[str, Any]:
        """The answer as a client keeps it."""
        body = {"model": "openai", "messages": messages, "tools": [WEATHER, TIME], "stream": stream}
        response = self.client.post("/v1/chat/completions", json=body, buffered=True)
        assert response.status_code == 200, (response.data, messages[-6:])
        self.now += SECONDS
        if not stream:
            message: dict[str, Any] = completion(response.data)["choices"][0]["message"]
            return message
        calls = [
            {"id": identifier, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for identifier, name, arguments in streamed_calls(response.data)
        ]
        return {
            "role": "assistant",
            "content": streamed_text(response.data),
            **({"tool_calls": calls} if calls else {}),
        }


@pytest.fixture
def vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendors]:
    with ExitStack() as stack:
        found = Vendors(stack, tmp_path)
        monkeypatch.setattr(state, "time", lambda: found.now)
        yield found


@pytest.mark.parametrize("seed", [1, 2])
def test_no_vendor_refuses_an_hours_conversation(vendors: Vendors, seed: int) -> None:
    """Calls are made by one vendor and their results heard by another; some are cut off, and some answers too."""
    chance = Random(seed)
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    heard: set[int] = set()
    for number in range(TURNS):
        vendor = chance.randrange(vendors.count)
        heard.add(vendor)
        stream = chance.random() < 0.7
        messages.append({"role": "user", "content": f"Question {number}."})
        names = chance.sample(sorted(ARGUMENTS), chance.choice([0, 0, 1, 2]))
        # Vendors that give no ids get ours; some count them anew in each answer.
        calls = [
            (f"call_{at}" if chance.random() < 0.5 else f"call_{number}_{at}", name) for at, name in enumerate(names)
        ]
        vendors.answer(vendor, [f"Answer {number}."] if not calls or chance.random() < 0.5 else [], calls)
        said_now = vendors.ask(messages, stream)
        if not said_now.get("tool_calls"):
            cut = chance.random() < 0.2  # the user has heard a part of it
            messages.append({**said_now, "content": said_now["content"][:4] if cut else said_now["content"]})
            continue
        messages.append(said_now)
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": f"Result {number}."}
            for call in said_now["tool_calls"]
        ]
        if chance.random() < 0.3:  # the user cuts in: some results never come, some come late
            late = chance.sample(results, chance.randrange(len(results) + 1))
            messages += [{"role": "user", "content": "Wait."}, *late]
            if late and len(late) < len(results):
                messages.append({"role": "user", "content": "Go on."})
        else:
            messages += results
        vendors.answer(chance.randrange(vendors.count), [f"After the tools {number}."], [])
        messages.append(vendors.ask(messages, stream))
    assert heard == set(range(vendors.count))
    assert vendors.now >= 3600
