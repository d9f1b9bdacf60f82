"""What requests took and cost, in the OpenAPI document."""

from core.json_values import Json
from schemas.openapi.responses import COUNT, TEXT, array, record, ref, value

# fmt: off
_SECONDS = value("number|null", "Seconds since the request came; null where it did not happen.")
_COST = value("number|null", "In the currency of the prices; null where no price is known.")
_SECONDS_TO = value("number|null", "Null where no answer was streamed.")
_MARKS = ["retry", "hedge", "deadline", "fallback", "filler", "heartbeat", "hang_up"]

RESPONSES: dict[str, Json] = {
    "RequestLog": record("One of the last requests.", object={"const": "request"}, id=TEXT,
        created=value("number", "When it came, in Unix seconds."), key=value("string|null", "The name of its key."),
        call=value("string|null", "The caller's id of the conversation."), endpoint=TEXT, model=TEXT,
        provider=value("string|null", "Who answered, or failed last."), target=value("string|null", "And the model."),
        stream=value("boolean|null"), status=COUNT,
        outcome=value("string", "How it ended.", enum=["done", "hung_up", "failed", "refused"]),
        error=value("object|null", "`code` and `message`."), duration=value("number", "Seconds."),
        headers=_SECONDS, first_token=_SECONDS, cost=_COST,
        usage=value("object|null", "Tokens of the answer; `estimated` where the provider did not count them."),
        filler=value("object|null", "What was said meanwhile, and when."), hung_up_at=_SECONDS,
        tokens_saved=value("integer|null", "About how many tokens the hang-up has spared."),
        attempts=array(ref("RequestAttempt"), "In the order of asking."), marks=array(ref("RequestMark"))),
    "RequestAttempt": record("One time that a target was asked.", target=TEXT, provider=TEXT, model=TEXT,
        why=value("string", "Why.", enum=["first", "retry", "hedge", "fallback"]), started=value("number"),
        headers=_SECONDS, first_token=_SECONDS, ended=_SECONDS,
        outcome=value("string", "`late`: cut off after its deadline; `lost`: another was faster.",
            enum=["answered", "failed", "late", "lost", "cancelled"]),
        status=value("integer|null", "The provider's, of a failure."), error=value("string|null"), deadline=_SECONDS,
        tokens=value("integer|null", "That it generated."), cost=_COST),
    "RequestMark": record("Something that happened.", at=value("number"), kind=value("string", "What.", enum=_MARKS),
        text=value("string", "In words.")),
}
RESPONSES |= {
    "UsageList": record("What was used.", object={"const": "list"}, data=array(ref("UsageRow"), "One for each group.")),
    "UsageRow": record("What was used by one group, or in all.", "key model provider day hour outcome",
        key=TEXT, model=TEXT, provider=TEXT, day=TEXT, hour=TEXT, outcome=TEXT, requests=COUNT, prompt_tokens=COUNT,
        completion_tokens=COUNT, cached_tokens=COUNT, reasoning_tokens=COUNT,
        estimated_requests=value("integer", "Requests of which tokens are estimated."), cost=_COST,
        unpriced_requests=value("integer", "Requests of which `cost` is not all, as a price is not known."),
        attempts=COUNT, hedges=COUNT, fallbacks=COUNT, done=COUNT, failed=COUNT, hung_up=COUNT,
        tokens_saved=value("integer", "About how many tokens hang-ups have spared."),
        first_token=record("Seconds to the first token.", p50=_SECONDS_TO, p95=_SECONDS_TO, p99=_SECONDS_TO)),
}
_MOMENT = "A date, a time such as 2026-11-30T08:00:00Z, or Unix seconds"
_GROUPS = "Some of `key`, `model`, `provider`, `day`, `hour`, `outcome`, comma-separated; without it there is one row."


def _parameter(name: str, about: str, **schema: object) -> Json:
    return {"name": name, "in": "query", "schema": {**TEXT, **schema}, "description": about}


PARAMETERS = [
    _parameter("from", f"{_MOMENT}; 30 days before `to` unless given."),
    _parameter("to", f"{_MOMENT}; a date counts to its end. Now, unless given."),
    _parameter("group_by", _GROUPS),
    _parameter("format", "`csv` for a table.", enum=["json", "csv"]),
    _parameter("key", "Of one key by its name, for an admin's key."),
]
ID = [{"name": "request_id", "in": "path", "example": "turn-42", "required": True, "schema": TEXT,
    "description": "The `x-request-id` of the request."}]
# fmt: on
