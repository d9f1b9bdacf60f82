"""The log: text or JSON lines, on stderr and in a rotating file, with the request's id and without secrets.

All other modules log through the standard library, to loggers below "thinkline"; a record may carry `facts` (a dict,
shown as key=value or as JSON keys) and `payload` (a body, shown at TRACE, with images cut).
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from time import gmtime, strftime
from typing import Any

import orjson

from core.masking import KNOWN_SECRETS, SecretMasker

# No line shows these, so they are not computed (https://docs.python.org/3/howto/logging.html#optimization).
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging._srcfile = None  # noqa: SLF001 - as that page recommends

TRACE = 5
logging.addLevelName(TRACE, "TRACE")

request_id: ContextVar[str] = ContextVar("request_id", default="")

CREDENTIALS = re.compile(r"([Bb]earer\s+|\b(?:sk|gsk|xai|pplx|r8|hf)[-_])[A-Za-z0-9._~+/=*-]{6,}")
# A check that is four times as fast; nearly all lines need no masking.
CREDENTIAL_HINTS = re.compile(r"earer\s|sk[-_]|xai[-_]|pplx[-_]|r8[-_]|hf[-_]")
KEY_IN_PATH = re.compile(r"(/k/)[^/\s?\"']+")
DATA_URL = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]{32,}")
LONG_BASE64 = re.compile(r"[A-Za-z0-9+/]{400,}={0,2}")
PAYLOAD_CHARACTERS = 20_000
FACT_CHARACTERS = 2000
SCALARS = frozenset({str, int, float, bool, type(None)})


def config(settings: Any) -> dict[str, Any]:
    """A logging.config dictionary for our loggers and gunicorn's."""
    level = logging.CRITICAL + 10 if settings.level == "NONE" else logging.getLevelNamesMapping()[settings.level]
    KNOWN_SECRETS.add(settings.secrets)
    handlers: dict[str, Any] = {"stderr": {"class": "telemetry.log_handlers.StderrHandler", "formatter": "line"}}
    if settings.log_file:
        handlers["file"] = {
            "class": "telemetry.log_files.BackgroundFileHandler",
            "formatter": "line",
            "filename": settings.log_file,
            "most_bytes": settings.log_max_bytes,
            "backups": settings.log_backups,
        }
    ours = {"handlers": list(handlers), "level": level, "propagate": False}
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": max(level, logging.WARNING)},
        "loggers": {"thinkline": ours, "gunicorn.error": ours, "gunicorn.access": {**ours, "level": "CRITICAL"}},
    }


class _LineFormatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = SecretMasker(secrets)

    def _is_harmless(self, values: Collection[Any]) -> bool:
        """Whether no value needs masking or cutting. They are checked together, since each request logs a line."""
        text = "\0".join([value for value in values if type(value) is str])
        if len(text) > FACT_CHARACTERS or not SCALARS.issuperset(map(type, values)):
            return False
        return self._without_secrets(text) == text

    def _mask(self, value: Any) -> Any:
        """The value without secrets, and of a bounded length."""
        if isinstance(value, str):
            # Cut after masking, so that no half of a secret is left.
            text = self._without_secrets(value[: 2 * FACT_CHARACTERS])
            return text if len(value) <= FACT_CHARACTERS else f"{text[:FACT_CHARACTERS]}...({len(value)} characters)"
        if isinstance(value, Mapping):
            return {str(key): self._mask(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._mask(each) for each in value]
        return value

    def _without_secrets(self, text: str) -> str:
        text = KNOWN_SECRETS.hide(self._secrets.hide(text))
        if "/k/" in text:
            text = KEY_IN_PATH.sub(r"\1***", text)
        return CREDENTIALS.sub(r"\1***", text) if CREDENTIAL_HINTS.search(text) else text

    def _facts(self, record: logging.LogRecord) -> dict[str, Any]:
        identifier = request_id.get()
        own = getattr(record, "facts", {})
        facts = {"request_id": identifier, **own} if identifier else dict(own)
        if not self._is_harmless(own.values()):
            facts = self._mask(facts)
        if (payload := getattr(record, "payload", None)) is not None:
            facts["payload"] = self._without_secrets(readable(payload))
        if record.exc_info:
            facts["exception"] = self._without_secrets(self.formatException(record.exc_info))
        return facts

    def _time(self, record: logging.LogRecord) -> str:
        return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


class TextFormatter(_LineFormatter):
    """Formats lines: time LEVEL logger: message key=value ..."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line; a traceback follows on lines of its own."""
        facts = self._facts(record)
        trace = facts.pop("exception", "")
        message = _one_line(self._without_secrets(record.getMessage()))
        pairs = "".join([f" {name}={value}" for name, value in facts.items()])
        if not pairs.isprintable() or pairs.count(" ") > len(facts) or "= " in f"{pairs} ":
            pairs = "".join([f" {name}={_fact_text(value)}" for name, value in facts.items()])
        line = f"{self._time(record)} {record.levelname:<7} {record.name}: {message}{pairs}"
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(_LineFormatter):
    """Formats lines as JSON objects."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record: time, level, logger and message, then the facts."""
        head = {"time": self._time(record), "level": record.levelname, "logger": record.name}
        message = self._without_secrets(record.getMessage())
        return _json({**head, "message": message, **self._facts(record)})


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def readable(payload: Any) -> str:
    """A body for a log line: JSON of bounded length, with images and other long base64 cut."""
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else _json(payload)
    text = DATA_URL.sub(lambda found: f"{found[0][:40]}...({len(found[0])} characters)", text)
    text = LONG_BASE64.sub(lambda found: f"{found[0][:20]}...({len(found[0])} characters)", text)
    return text if len(text) <= PAYLOAD_CHARACTERS else f"{text[:PAYLOAD_CHARACTERS]}...({len(text)} characters)"


def _json(value: Any) -> str:
    try:
        return orjson.dumps(dict(value) if isinstance(value, Mapping) else value, default=str).decode()
    except TypeError:  # nested too deeply, or a number of more than 64 bits
        return orjson.dumps(repr(value)[:PAYLOAD_CHARACTERS]).decode()


def _fact_text(value: Any) -> str:
    """A fact's value as text; in quotes if it could be read as several values."""
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def _one_line(text: str) -> str:
    """The text with control characters escaped: no value can begin a log line or control a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
