"""Every kind of upstream that streams chats, behind one app: the model's name, and how to script an answer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.emulators.answers import ScriptedAnswer
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import AGENT, BedrockUpstream
from tests.emulators.dialects import AGENTS, DIALECTS, models_file
from tests.emulators.server import Server


@dataclass(frozen=True)
class Line:
    """A model of ours and the emulated vendor behind it. `answer` makes an answer in that vendor's terms: `texts`,
    `delay`, `first_delay`, `frame_delay` and `fault` are the same for all. `opens`: the requests before a chat's own.
    """

    name: str
    provider: str
    model: str
    upstream: Any
    answer: Callable[..., Any]
    opens: int = 0

    def __str__(self) -> str:
        return self.name


NAMES = (
    *dict.fromkeys(f"{each.name}/{each.model}" for each in (*DIALECTS, *AGENTS)),
    "bedrock/bedrock-agent",
    "bedrock-models/nova",
)


def providers_of(settings: Mapping[str, str]) -> Mapping[str, Any]:
    """The providers of the lines that models.yaml alone can configure."""
    providers: Mapping[str, Any] = yaml.safe_load(Path(settings["MODELS_FILE"]).read_text())["providers"]
    return providers


@contextmanager
def lines() -> Iterator[tuple[Mapping[str, Line], Mapping[str, str]]]:
    """The lines by name (NAMES), and the settings of an app that has them all: whoever writes another MODELS_FILE takes
    over `providers_of` them.
    """
    with ExitStack() as stack:
        settings: dict[str, str] = {}
        upstreams: dict[str, Server] = {}
        found: dict[str, Line] = {}
        providers: dict[str, Any] = {}
        for dialect in (*DIALECTS, *AGENTS):
            if dialect.name not in upstreams:
                upstreams[dialect.name] = stack.enter_context(dialect.upstream())
                settings |= dialect.settings(upstreams[dialect.name])
                providers |= dialect.providers(upstreams[dialect.name])
            name = f"{dialect.name}/{dialect.model}"
            found[name] = Line(
                name, dialect.name, dialect.model, upstreams[dialect.name], ScriptedAnswer, dialect.opens
            )
        amazon = stack.enter_context(BedrockUpstream())
        settings |= {**amazon.settings, "AGENT_ID": AGENT[0], "AGENT_ALIAS_ID": AGENT[1]}
        for provider, model, short in (
            ("bedrock", "bedrock-agent", "bedrock-agent"),
            ("bedrock-models", "amazon.nova-lite-v1:0", "nova"),
        ):
            name = f"{provider}/{short}"
            found[name] = Line(name, provider, model, amazon, Turn)
        yield found, {**settings, "MODELS_FILE": models_file(providers)}
