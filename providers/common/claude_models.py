"""What each Claude model accepts, wherever it is hosted: its kind of thinking, and the parameters that it refuses.

Sources: https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting (the table by model),
/build-with-claude/effort, /build-with-claude/structured-outputs, /about-claude/models/overview; read 2026-11-24.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

EFFORTS = ("low", "medium", "high", "xhigh", "max")
BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
"""Tokens of thinking for models with a thinking budget."""
LEAST_BUDGET = 1024


@dataclass(frozen=True, slots=True)
class Family:
    """Models that accept the same parameters.

    thinking    adaptive: as much as the model finds necessary; manual: within a budget; "": never
    thinks_by_default   it thinks if the request does not say
    off         the `thinking.type` that turns thinking off; "" if nothing does
    efforts     the values of `output_config.effort`
    sampling    temperature, top_p and top_k: all of them, one (temperature or top_p), or none
    prefill     continues an assistant's message at the end
    schemas     supports a JSON schema for the answer
    max_tokens  used if the caller gives none; every model of the family allows it
    """

    pattern: str
    thinking: Literal["adaptive", "manual", ""] = "adaptive"
    thinks_by_default: bool = False
    off: str = "disabled"
    efforts: tuple[str, ...] = EFFORTS
    sampling: Literal["all", "one", "none"] = "none"
    prefill: bool = False
    schemas: bool = True
    max_tokens: int = 32_000


FAMILIES = (
    Family(r"sonnet-5-5\b", thinks_by_default=True, off="between_tools"),
    Family(r"fable|mythos|opus-5-5\b", thinks_by_default=True, off=""),
    Family(r"(opus|sonnet|haiku)-5\b", thinks_by_default=True),
    Family(r"opus-4-[78]\b"),
    Family(r"(opus|sonnet)-4-6\b", efforts=("low", "medium", "high", "max"), sampling="one"),
    Family(r"opus-4-5\b", thinking="manual", efforts=("low", "medium", "high"), sampling="one", prefill=True),
    Family(r"(sonnet|haiku)-4-5\b|opus-4-1\b", thinking="manual", efforts=(), sampling="one", prefill=True),
    Family(
        r"(opus|sonnet)-4\b|claude-4-|claude-3-7-",
        thinking="manual",
        efforts=(),
        sampling="one",
        prefill=True,
        schemas=False,
    ),
    Family(
        r"claude-(3|2|instant)", thinking="", efforts=(), sampling="all", prefill=True, schemas=False, max_tokens=4096
    ),
    Family(r"claude", thinks_by_default=True, off=""),  # a model newer than this table
    Family("", thinking="", efforts=(), sampling="all", prefill=True, max_tokens=8192),  # another vendor's model
)
"""By a part of the model's name, with hyphens. The first that fits counts."""


@lru_cache(maxsize=256)
def family_of(model: str) -> Family:
    """The family of a model, by its name at Anthropic, or at a cloud or gateway that decorates it."""
    name = re.sub(r"[._@:]", "-", model.lower())
    return next(each for each in FAMILIES if re.search(each.pattern, name))


def thinking_options(
    family: Family, reasoning_effort: str, *, shown: bool, forced: bool, max_tokens: int
) -> tuple[dict[str, Any], str]:
    """`thinking` and `output_config.effort` for OpenAI's `reasoning_effort`; {} and "" leave them out.

    `shown`: the caller sees the reasoning. `forced`: a tool must be called, which forbids thinking if it can be turned
    off. `max_tokens` is the request's, which a budget must stay below.
    """
    effort = _effort(family, reasoning_effort)
    wanted = reasoning_effort in EFFORTS and not (forced and (family.off or not family.thinks_by_default))
    if family.thinking == "manual":
        budget = min(BUDGETS[reasoning_effort], max_tokens - 1) if wanted else 0
        return ({"type": "enabled", "budget_tokens": budget} if budget >= LEAST_BUDGET else {}), effort
    if family.thinking == "adaptive":
        if wanted or (family.thinks_by_default and shown and not forced and reasoning_effort != "none"):
            return {"type": "adaptive", "display": "summarized" if shown else "omitted"}, effort
        if family.thinks_by_default and family.off and (reasoning_effort == "none" or forced):
            return {"type": family.off}, effort
    return {}, effort


def _effort(family: Family, reasoning_effort: str) -> str:
    """The effort, or the nearest lower one that the family has; "" if none is requested or the family has none."""
    if reasoning_effort in ("none", "minimal"):
        return "low" if family.efforts and (reasoning_effort == "minimal" or not family.off) else ""
    if reasoning_effort not in EFFORTS:
        return ""
    return next(
        (each for each in reversed(EFFORTS[: EFFORTS.index(reasoning_effort) + 1]) if each in family.efforts), ""
    )
