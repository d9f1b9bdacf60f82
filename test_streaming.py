"""Judges how an endpoint streams chat completions: alone, or beside OpenAI's or any other endpoint.

    python test_streaming.py                            this machine's Thinkline
    python test_streaming.py --url https://host/v1 --key KEY --model MODEL
    python test_streaming.py --against openai           beside api.openai.com (OPENAI_API_KEY)
    python test_streaming.py --against http://other/v1 --against-key KEY --against-model MODEL

Exit codes: 0 every check passed (warnings allowed), 1 a check failed, 2 it could not run. When comparing, the verdict
is on the first endpoint alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from config import SettingError, Settings, is_this_machine
from tools.streamcheck import plot, report
from tools.streamcheck.capture import Unreachable
from tools.streamcheck.judge import CHAT, Endpoint, Judged, Plan, Refused, judge, usual_model
from tools.streamcheck.stream import Asked

OPENAI = "https://api.openai.com/v1"
PROMPT = "Please count to 40: the numbers alone, separated by commas."
TOOL_PROMPT = "What is the weather in Paris, in celsius?"
COULD_NOT_RUN = 2


class Unusable(Exception):
    """What was asked for cannot be done here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        all_judged = _judge(options, Settings.load())
        code = int(all_judged[0].failed)
        _write(options, all_judged)
    except (Unusable, Unreachable, Refused, SettingError, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line speaks
        if options.json:
            print(json.dumps({"ok": False, "exit_code": COULD_NOT_RUN, "error": str(error)}))  # noqa: T201
        return COULD_NOT_RUN
    if options.json:
        shown = json.dumps(report.machine(all_judged, code), ensure_ascii=False, indent=2)
    else:
        shown = report.text(all_judged, report.Paint(on=sys.stdout.isatty() and not options.no_color))
    _show(shown)
    return code


def _judge(options: argparse.Namespace, settings: Settings) -> list[Judged]:
    if options.plot and not plot.available():
        raise Unusable("--plot needs matplotlib: pip install matplotlib")
    plan = Plan(
        prompt=options.prompt or (TOOL_PROMPT if options.tools else PROMPT),
        asked=Asked(usage=options.usage, tools=options.tools),
        runs=options.runs,
        timeout=options.timeout,
        client=options.client,
    )
    return [judge(endpoint, plan) for endpoint in _endpoints(options, settings)]


def _endpoints(options: argparse.Namespace, settings: Settings) -> list[Endpoint]:
    url = options.url or f"http://127.0.0.1:{settings.port}/v1"
    found = [_endpoint(url, options.key, options.model, settings)]
    if options.against == "demo":
        found.append(replace(found[0], model="demo/demo"))
    elif options.against:
        other = OPENAI if options.against == "openai" else options.against
        found.append(_endpoint(other, options.against_key, options.against_model, settings))
    return [each if each.model else replace(each, model=usual_model(each, options.timeout)) for each in found]


def _endpoint(url: str, key: str, model: str, settings: Settings) -> Endpoint:
    endpoint = Endpoint(url.rstrip("/").removesuffix(CHAT), key, model)
    if not url.startswith(("http://", "https://")):
        raise Unusable(f"{url!r} is no address: it looks like https://host/v1.")
    if key:
        return endpoint
    # A configured key never goes to another address than its own.
    if endpoint.is_openai:
        own = settings.upstreams.get("OPENAI_API_KEY", "")
        if not own:
            raise Unusable("OpenAI needs a key: set OPENAI_API_KEY, or give one with --key or --against-key.")
    else:
        here = is_this_machine(urlsplit(endpoint.url).hostname or "")
        own = next(iter(settings.keys.values()), "") if here else ""
    return replace(endpoint, key=own)


def _write(options: argparse.Namespace, all_judged: Sequence[Judged]) -> None:
    if options.raw:
        Path(options.raw).write_text(report.raw(all_judged), encoding="utf-8")
    if options.plot:
        plot.save(all_judged, options.plot)


def _show(text: str) -> None:
    with suppress(AttributeError, ValueError):  # a terminal that cannot show a letter gets it escaped
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(text)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--url", default="", help="the endpoint to judge: what stands before /chat/completions")
    add("--key", default="", help="its key; for this machine API_KEY, for api.openai.com OPENAI_API_KEY by default")
    add("--model", default="", help="the model to ask; by default gpt-4o-mini, or else the first that it lists")
    add("--against", default="", metavar="URL", help="compare with this one: an address, `openai`, or `demo`")
    add("--against-key", default="", metavar="KEY", help="its key")
    add("--against-model", default="", metavar="MODEL", help="its model")
    add("--prompt", default="", help="what to say; by default something long enough to see a rhythm")
    add("--tools", action="store_true", help="ask for a tool call")
    add("--usage", action=argparse.BooleanOptionalAction, default=True, help="ask for the usage")
    add(
        "--client",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask once more through the openai package",
    )
    add("--runs", type=_runs, default=1, metavar="N", help="ask so often; the time to first token is the median")
    add("--timeout", type=_seconds, default=30.0, metavar="S", help="seconds to wait for each event (30)")
    add("--plot", default="", metavar="FILE.png", help="save a plot of the timing (needs matplotlib)")
    add("--raw", default="", metavar="FILE", help="save every frame with its time, as lines of JSON")
    add("--json", action="store_true", help="report for machines")
    add("--no-color", action="store_true", help="no colours, also on a terminal")
    return parser


def _runs(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number of seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
