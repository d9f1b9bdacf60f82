"""`GET /v1/usage`: its parameters, and its rows as JSON or CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

import orjson
from marshmallow import ValidationError, fields, validate

from core.errors import InvalidRequest
from schemas.closed import ClosedSchema

GROUPS = ("key", "model", "provider", "day", "hour", "outcome")
DAYS = 30
"""The days of a report that names no `start`."""
DAY = 86_400.0
DATE = len("2026-11-30")
LATEST = 253_402_300_799
"""The last second of the year 9999."""
COUNTS = (
    "requests", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "estimated_requests", "cost",
    "unpriced_requests", "attempts", "hedges", "fallbacks", "done", "failed", "hung_up", "tokens_saved",
    "first_token_p50", "first_token_p95", "first_token_p99",
)  # fmt: skip
"""The columns of CSV behind those of the groups."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of a text that a spreadsheet would take for a formula."""


class Moment(fields.Field[float]):
    """A date, a time in ISO 8601 (in UTC if it has no zone), or Unix seconds; loaded as Unix seconds. A date becomes
    its first second, or its last one if `ends`.
    """

    def __init__(self, *, ends: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.ends = ends

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        text = str(value)
        try:
            if text.replace(".", "", 1).isdecimal() and text.isascii():
                return min(float(text), LATEST)
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return min(moment.timestamp() + DAY * (self.ends and len(text) <= DATE), LATEST)
        except (ValueError, OverflowError):
            raise ValidationError("Must be a date, a time such as 2026-11-30T08:00:00Z, or Unix seconds.") from None


class UsageSchema(ClosedSchema):
    """The parameters of a report."""

    start = Moment(data_key="from")
    end = Moment(data_key="to", ends=True)
    group_by = fields.List(fields.String(validate=validate.OneOf(GROUPS)))
    format = fields.String(validate=validate.OneOf(["json", "csv"]))
    key = fields.String()


_schema = UsageSchema()


def load_usage(parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`start` and `end` in Unix seconds, `group_by`, `format`, and `key` where that is given. Raises InvalidRequest."""
    given: dict[str, Any] = {name: values[-1] for name, values in parameters.items()}
    if "group_by" in parameters:
        texts = [text.strip() for each in parameters["group_by"] for text in each.split(",")]
        given["group_by"] = list(dict.fromkeys(text for text in texts if text))
    try:
        loaded: dict[str, Any] = _schema.load(given)
    except ValidationError as error:
        name, messages = next(iter(error.messages_dict.items()))
        sentence = next(iter(messages.values()))[0] if isinstance(messages, dict) else messages[0]
        raise InvalidRequest(f"{name}: {sentence}", param=name) from None
    end = loaded.get("end", time() + 1)
    start = loaded.get("start", end - DAYS * DAY)
    if start >= end:
        raise InvalidRequest("to: Must be later than from.", param="to")
    return {"group_by": [], "format": "json", **loaded, "start": start, "end": end}


def usage_json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as one object."""
    return orjson.dumps({"object": "list", "data": rows})


def usage_csv(rows: Sequence[Mapping[str, Any]], group_by: Sequence[str]) -> bytes:
    """The rows as CSV. The head is the same for any number of rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*group_by, *COUNTS])
    writer.writeheader()
    writer.writerows(map(_flat, rows))
    return text.getvalue().encode()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in row.items() if name != "first_token"}
    flat |= {f"first_token_{name}": value for name, value in row["first_token"].items()}
    return {name: f"'{value}" if str(value).startswith(FORMULA) else value for name, value in flat.items()}
