"""What an OpenAI-shaped upstream says: an `Answer` describes it, completion.py makes the bytes of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.emulators.fault import Fault

TEXTS = ("Grüße", " aus", " dem", " Café", ":", " we", " open", " at", " 9 —", " 日本語", " and", " 🙂", " too", ".")
"""The default answer: several words, and characters of one to four bytes."""

USAGE: Mapping[str, Any] = {
    "prompt_tokens": 19,
    "completion_tokens": 14,
    "total_tokens": 33,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


class Call(NamedTuple):
    """A tool call and the pieces that its arguments come in."""

    id: str
    name: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class ScriptedAnswer:
    """One answer. As it stands: TEXTS, or a call of the tool that the request demands.

    What is said: `texts`, `refusal`, `reasoning` (DeepSeek's reasoning_content) and `calls` in this order, each a
    list of pieces; `finish_reason` follows from them; `usage` None is never told; `choices` is the request's n.

    When, in seconds: `delay` before the head, `first_delay` before the first frame or the body, `frame_delay` before
    each later frame.

    A failure: a `status` of 400 or more with its usual body, or `error` as the body; `headers` go with any answer.
    `fault` spoils the answer on the wire.

    Foreign keys: `chunk_keys`, `choice_keys`, `delta_keys` (a whole body's message has these) and `first_frame`, a
    chunk with `choices: []` and these keys before all others.

    Other dialects of the same: `spaced` JSON, `crlf` line ends, `comment` before and `event` name on each frame, no
    `role` frame, no `finish_reason: null` (`null_finish`), no `index`, `usage_on_finish` frame, all calls whole and in
    one delta (`calls_together`), the `first_call_index` (None: no index), no `call_ids`, `created_varies`,
    `obfuscation`, `logprobs` unasked.
    """

    texts: Sequence[str] | None = None
    refusal: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    calls: Sequence[Call | tuple[str, str, Sequence[str]]] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)
    choices: int | None = None

    delay: float = 0.0
    first_delay: float = 0.0
    frame_delay: float = 0.0

    status: int = 200
    error: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None

    chunk_keys: Mapping[str, Any] = field(default_factory=dict)
    choice_keys: Mapping[str, Any] = field(default_factory=dict)
    delta_keys: Mapping[str, Any] = field(default_factory=dict)
    first_frame: Mapping[str, Any] | None = None

    spaced: bool = False
    crlf: bool = False
    comment: str = ""
    event: str = ""
    role: bool = True
    null_finish: bool = True
    index: bool = True
    usage_on_finish: bool = False
    calls_together: bool = False
    first_call_index: int | None = 0
    call_ids: bool = True
    created_varies: bool = False
    obfuscation: bool = False
    logprobs: bool = False


def value_of(call: Call) -> Any:
    """A call's arguments, for vendors that send them as JSON; None where there are none."""
    text = "".join(call.arguments)
    return json.loads(text) if text.strip() else None


_UNFILTERED = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
AZURE = ScriptedAnswer(
    first_frame={
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _UNFILTERED}],
    },
    choice_keys={"content_filter_results": _UNFILTERED},
)
DEEPSEEK = ScriptedAnswer(
    reasoning=("They", " greet", " me."), delta_keys={"reasoning_content": None}, usage_on_finish=True
)
GROQ = ScriptedAnswer(chunk_keys={"x_groq": {"id": "req_01jbd6g2qdfw2adyrt2az8hz4w"}})
OPENROUTER = ScriptedAnswer(
    chunk_keys={"provider": "Mistral"}, choice_keys={"native_finish_reason": None}, comment="OPENROUTER PROCESSING"
)
"""The keys that these add to OpenAI's, as their own answers show them."""
