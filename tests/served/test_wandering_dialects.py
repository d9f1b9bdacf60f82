"""One conversation with tools, whose caller asks by chat, then by messages, and back, of vendors that change too."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.emulators.answers import Call
from tests.served.test_wandering import ARGUMENTS, Vendors
from tests.support import messages as read
from tests.support.conversations import TIME, WEATHER

TOOLS = [{"name": each["function"]["name"], "input_schema": each["function"]["parameters"]} for each in (WEATHER, TIME)]

pytestmark = pytest.mark.thorough


@pytest.fixture
def vendors(tmp_path: Path) -> Iterator[Vendors]:
    with ExitStack() as stack:
        yield Vendors(stack, tmp_path)


def as_messages(chat: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation as a client of Anthropic's dialect keeps it."""
    found: list[dict[str, Any]] = []
    for message in chat:
        if message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
            if found[-1]["role"] == "user":
                found[-1]["content"].append(result)
            else:
                found.append({"role": "user", "content": [result]})
            continue
        content = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        for call in message.get("tool_calls", []):
            function = call["function"]
            use = {"type": "tool_use", "id": call["id"], "name": function["name"]}
            content.append({**use, "input": json.loads(function["arguments"])})
        found.append({"role": message["role"], "content": content})
    return found


def as_chat(message: dict[str, Any]) -> dict[str, Any]:
    """An answer in Anthropic's dialect as a client of OpenAI's would have had it."""
    calls = [
        {
            "id": each["id"],
            "type": "function",
            "function": {"name": each["name"], "arguments": json.dumps(each["input"])},
        }
        for each in message["content"]
        if each["type"] == "tool_use"
    ]
    return {"role": "assistant", "content": read.text(message), **({"tool_calls": calls} if calls else {})}


def ask(vendors: Vendors, chat: list[dict[str, Any]], dialect: str, *, stream: bool) -> dict[str, Any]:
    if dialect == "chat":
        return vendors.ask(chat, stream)
    body = {"model": "openai", "max_tokens": 500, "messages": as_messages(chat), "tools": TOOLS, "stream": stream}
    response = vendors.client.post("/v1/messages", json=body, buffered=True)
    assert response.status_code == 200, (response.data, body["messages"][-4:])
    return as_chat(read.streamed(response.data) if stream else read.whole(response.data))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_conversation_goes_on_in_either_dialect_at_any_vendor(vendors: Vendors, seed: int) -> None:
    chance = Random(seed)
    chat: list[dict[str, Any]] = []
    for number in range(20):
        chat.append({"role": "user", "content": f"Question {number}."})
        names = chance.sample(sorted(ARGUMENTS), chance.choice([0, 1, 2]))
        calls = [Call(f"call_{number}_{at}", name, [ARGUMENTS[name]]) for at, name in enumerate(names)]
        vendors.answer(chance.randrange(vendors.count), [f"Answer {number}."], [(call.id, call.name) for call in calls])
        answer = ask(vendors, chat, chance.choice(["chat", "messages"]), stream=chance.random() < 0.5)
        assert [call["function"]["name"] for call in answer.get("tool_calls", [])] == names
        chat.append(answer)
        if not names:
            assert answer["content"] == f"Answer {number}."
            continue
        chat += [
            {"role": "tool", "tool_call_id": call["id"], "content": f"Result {number}."}
            for call in answer["tool_calls"]
        ]
        vendors.answer(chance.randrange(vendors.count), [f"After {number}."], [])
        chat.append(ask(vendors, chat, chance.choice(["chat", "messages"]), stream=chance.random() < 0.5))
        assert chat[-1]["content"] == f"After {number}."
