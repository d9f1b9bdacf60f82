"""The final word: what the openai package itself makes of a stream, recorded or live."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from tools.streamcheck.capture import End
from tools.streamcheck.check import Need, Problem, Result, Skipped, check, error, warning
from tools.streamcheck.stream import Stream, shorten

LIVE = "openai client, live"
ABOUT_LIVE = "The openai package, asking the same for itself, gets a whole answer."
MISSING = "the openai package is not installed"


class Read(NamedTuple):
    """What a client understood of an answer."""

    text: str
    calls: list[tuple[str, str]]
    finish: str | None


@check("openai client", Need.ANSWER)
def replay(stream: Stream) -> Iterator[Problem]:
    """The openai package, given these very bytes, reads the same answer."""
    if stream.capture.end in (End.CUT, End.RESET, End.SILENT, End.GARBAGE, End.ENDLESS):
        raise Skipped("the stream broke off")
    openai, httpx = _packages()
    headers = {"content-type": stream.capture.headers.get("content-type", "")}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=stream.capture.body))
    with openai.OpenAI(
        api_key="-", base_url="http://recorded/v1", max_retries=0, http_client=httpx.Client(transport=transport)
    ) as client:
        found = _read(client, {"model": "-", "messages": [], "stream": True})
    if isinstance(found, str):
        yield error(f"it fails: {found}")
        return
    for what, theirs, ours in zip(Read._fields, found, (stream.text, stream.calls, stream.finish), strict=True):
        if theirs != ours:
            yield error(f"it reads another {what}: {shorten(repr(theirs))} for {shorten(repr(ours))}")


def live(base_url: str, key: str, body: Mapping[str, Any], timeout: float, recorded: Stream) -> Result:
    """Ask once more through the package, with all that it sends and accepts by itself."""
    try:
        openai, _ = _packages()
    except Skipped as skipped:
        return Result(LIVE, ABOUT_LIVE, note=str(skipped))
    with openai.OpenAI(api_key=key or "-", base_url=base_url, max_retries=0, timeout=timeout) as client:
        found = _read(client, body)
    if isinstance(found, str):
        return Result(LIVE, ABOUT_LIVE, (error(f"it fails: {found}"),))
    problems: list[Problem] = []
    if not found.text.strip() and not found.calls:
        problems.append(error("it reads an empty answer"))
    if found.finish != recorded.finish:
        problems.append(warning(f"it reads the finish_reason {found.finish}, where {recorded.finish} was recorded"))
    return Result(LIVE, ABOUT_LIVE, tuple(problems))


def _read(client: Any, body: Mapping[str, Any]) -> Read | str:
    """What the client understands, or how it fails."""
    text = ""
    calls: dict[int, list[str]] = {}
    finish: str | None = None
    try:
        with client.chat.completions.create(**body) as chunks:
            for choice in (choice for chunk in chunks for choice in chunk.choices):
                if choice.index not in (0, None):
                    continue
                text += choice.delta.content or ""
                finish = finish or choice.finish_reason
                for call in choice.delta.tool_calls or ():
                    joined = calls.setdefault(call.index, ["", ""])
                    joined[0] += call.function.name or ""
                    joined[1] += call.function.arguments or ""
    except Exception as problem:  # noqa: BLE001 - whatever it raises is the finding
        return shorten(f"{type(problem).__name__}: {problem}", 200)
    return Read(text, [(name, arguments) for name, arguments in calls.values()], finish)


def _packages() -> tuple[ModuleType, ModuleType]:
    """openai, and the httpx that it is built on, which goes by another name since openai 3."""
    try:
        openai = import_module("openai")
    except ImportError:
        raise Skipped(MISSING) from None
    base: Any = openai.DefaultHttpxClient
    name = next(kind.__module__ for kind in base.__mro__ if kind.__module__.startswith("httpx"))
    return openai, import_module(name.partition(".")[0])
