"""The conversations that every dialect must have in the same way (tests/dialects/test_dialects.py), as one table.

Each is asked in OpenAI's dialect, answered by an emulated vendor in its own, and must come back as `wanted`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.answers import TEXTS, Call, ScriptedAnswer
from tests.emulators.openai.server import PIXEL
from tests.emulators.scripted import NO_SUCH_MODEL

USAGE = (19, 14, 0, 0)
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": schema}}


WEATHER = tool("get_weather", city={"type": "string"})
TIME = tool("get_time", zone={"type": "string"})
CLOCK = tool("tick")
TREE = tool("plant", node={"$ref": "#/$defs/node"})
TREE["function"]["parameters"]["$defs"] = {
    "node": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
BOTH = (
    Call("call_one", "get_weather", ['{"city"', ': "Zürich', '"}']),
    Call("call_two", "get_time", ["", '{"zone": ', '"CET"}']),
)
AFTERWARDS = [
    {"role": "user", "content": "Weather and time in Zürich?"},
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {
                "id": "call_one",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
            },
            {"id": "call_two", "type": "function", "function": {"name": "get_time", "arguments": '{"zone": "CET"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_one", "content": "18 degrees and fair"},
    {"role": "tool", "tool_call_id": "call_two", "content": '{"time": "09:30"}'},
]


@dataclass(frozen=True)
class Wanted:
    """What the caller must get: words, calls as (name, arguments), finish reason and usage; or status and code."""

    text: str = "".join(TEXTS)
    calls: tuple[tuple[str, Any], ...] = ()
    finish: str = "stop"
    usage: tuple[int, ...] = USAGE
    reasoning: str = ""
    status: int = 200
    code: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Conversation:
    """`body` is asked and `answer` said; `told` are texts that must have reached the vendor."""

    name: str
    body: Mapping[str, Any] = field(default_factory=dict)
    answer: ScriptedAnswer = field(default_factory=ScriptedAnswer)
    wanted: Wanted = field(default_factory=Wanted)
    texts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def failing(name: str, answer: ScriptedAnswer, status: int, code: str | None, **more: Any) -> Conversation:
    return Conversation(name, {}, answer, Wanted(status=status, code=code, **more))


CONVERSATIONS = (
    Conversation("plain", {"messages": HI}, texts=("hi",)),
    Conversation(
        "unicode",
        {"messages": [{"role": "user", "content": 'Grüß "Gott"\n\u2028 日本語 🙂'}]},
        ScriptedAnswer(texts=["  é", "\n\n", "日本", "語 🙂 ", '"quoted"\t']),
        Wanted(text='  é\n\n日本語 🙂 "quoted"\t'),
        texts=('Grüß "Gott"\n\u2028 日本語 🙂',),
    ),
    Conversation(
        "instructions",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                *HI,
                {"role": "assistant", "content": "Hello!"},
                {"role": "user", "content": "One."},
                {"role": "user", "content": "Two."},
            ]
        },
        texts=("Be brief.", "Be kind.", "hi", "Hello!", "One.", "Two."),
    ),
    Conversation(
        "assistant first",
        {"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": "Good day!"}, *HI]},
        texts=("Good day!", "hi"),
    ),
    Conversation("instructions alone", {"messages": [{"role": "system", "content": "Greet them."}]}, texts=("Greet",)),
    Conversation(
        "a past refusal",
        {"messages": [*HI, {"role": "assistant", "content": None, "refusal": "I may not."}, *HI]},
        texts=("hi", "I may not."),
    ),
    Conversation(
        "empty messages",
        {"messages": [*HI, {"role": "assistant", "content": ""}, {"role": "user", "content": "Still there?"}]},
        texts=("hi", "Still there?"),
    ),
    Conversation(
        "parameters",
        {
            "messages": HI,
            "temperature": 0.3,
            "max_tokens": 99,
            "max_completion_tokens": 77,
            "stop": ["END", "HALT"],
            "user": "user-1",
            "seed": 7,
            "logit_bias": {"50256": -100},
            "frequency_penalty": 0.5,
            "presence_penalty": 0.5,
        },
        texts=("END", "HALT"),
    ),
    Conversation(
        "parallel tools",
        {"messages": AFTERWARDS[:1], "tools": [WEATHER, TIME]},
        ScriptedAnswer(calls=BOTH),
        Wanted(
            text="", calls=(("get_weather", {"city": "Zürich"}), ("get_time", {"zone": "CET"})), finish="tool_calls"
        ),
        texts=("get_weather", "get_time", "city", "zone"),
    ),
    Conversation(
        "words, then a tool",
        {"messages": HI, "tools": [WEATHER]},
        ScriptedAnswer(texts=["Let me", " look."], calls=BOTH[:1]),
        Wanted(text="Let me look.", calls=(("get_weather", {"city": "Zürich"}),), finish="tool_calls"),
    ),
    Conversation(
        "a tool without arguments",
        {"messages": HI, "tools": [CLOCK]},
        ScriptedAnswer(calls=[Call("call_x", "tick", ["{}"])]),
        Wanted(text="", calls=(("tick", {}),), finish="tool_calls"),
    ),
    Conversation("tools at hand", {"messages": HI, "tools": [WEATHER], "parallel_tool_calls": False}),
    Conversation("no tool", {"messages": HI, "tools": [WEATHER], "tool_choice": "none"}),
    Conversation(
        "any tool",
        {"messages": HI, "tools": [WEATHER, TIME], "tool_choice": "required"},
        ScriptedAnswer(),
        Wanted(text="", calls=(("get_weather", {"city": "Zürich"}),), finish="tool_calls"),
    ),
    Conversation(
        "a named tool",
        {
            "messages": HI,
            "tools": [WEATHER, TIME],
            "tool_choice": {"type": "function", "function": {"name": "get_time"}},
        },
        ScriptedAnswer(),
        Wanted(text="", calls=(("get_time", {"zone": "Zürich"}),), finish="tool_calls"),
    ),
    Conversation(
        "tool results",
        {"messages": AFTERWARDS, "tools": [WEATHER, TIME]},
        texts=("Let me look.", "18 degrees and fair", "09:30", "Zürich", "CET"),
    ),
    Conversation(
        "legacy functions",
        {
            "messages": [
                *HI,
                {"role": "assistant", "content": None, "function_call": {"name": "tick", "arguments": "{}"}},
                {"role": "function", "name": "tick", "content": "tock"},
            ],
            "functions": [CLOCK["function"]],
        },
        texts=("tick", "tock"),
    ),
    Conversation("a schema with $ref", {"messages": HI, "tools": [TREE]}, texts=("plant", "name")),
    Conversation(
        "images",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                    ],
                }
            ]
        },
        texts=("What is this?", PIXEL),
    ),
    Conversation(
        "JSON schema",
        {
            "messages": HI,
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
        },
        ScriptedAnswer(texts=['{"name": "Ada', '", "age": 36}']),
        Wanted(text='{"name": "Ada", "age": 36}'),
        texts=("name", "age"),
    ),
    Conversation(
        "JSON object",
        {
            "messages": [{"role": "user", "content": "Answer in JSON."}],
            "response_format": {"type": "json_object"},
        },
        ScriptedAnswer(texts=['{"a": 1}']),
        Wanted(text='{"a": 1}'),
    ),
    Conversation(
        "length", {"messages": HI, "max_tokens": 5}, ScriptedAnswer(finish_reason="length"), Wanted(finish="length")
    ),
    Conversation(
        "refusal",
        {"messages": HI},
        ScriptedAnswer(texts=["I"], finish_reason="content_filter"),
        Wanted(text="I", finish="content_filter"),
    ),
    Conversation(
        "reasoning",
        {"messages": HI, "include_reasoning": True, "reasoning_effort": "high"},
        ScriptedAnswer(reasoning=["They greet", " me."], texts=["Hello", "!"]),
        Wanted(text="Hello!", reasoning="They greet me."),
    ),
    Conversation(
        "reasoning, unasked",
        {"messages": HI},
        ScriptedAnswer(reasoning=["They greet", " me."], texts=["Hello", "!"]),
        Wanted(text="Hello!"),
    ),
    Conversation(
        "usage",
        {"messages": HI},
        ScriptedAnswer(
            usage={
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 5},
            }
        ),
        Wanted(usage=(100, 20, 60, 5)),
    ),
    Conversation(
        "an unknown call's result",
        {"messages": [*HI, {"role": "tool", "tool_call_id": "call_nobody", "content": "?"}]},
        ScriptedAnswer(),
        Wanted(status=400),
    ),
    Conversation(
        "an unknown model", {"model": NO_SUCH_MODEL}, ScriptedAnswer(), Wanted(status=404, code="model_not_found")
    ),
    failing("400", ScriptedAnswer(status=400), 400, None),
    failing("401", ScriptedAnswer(status=401), 502, "upstream_authentication"),
    failing("403", ScriptedAnswer(status=403), 502, "upstream_authentication"),
    failing(
        "429", ScriptedAnswer(status=429, headers={"retry-after": "7"}), 429, "rate_limit_exceeded", retry_after="7"
    ),
    failing("500", ScriptedAnswer(status=500), 502, "upstream_error"),
    failing("503", ScriptedAnswer(status=503), 503, "upstream_error"),
    failing("504", ScriptedAnswer(status=504), 504, "upstream_timeout"),
)
