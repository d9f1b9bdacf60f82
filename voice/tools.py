"""Tools of the platforms: the actions on the call that the model may choose. Pure functions.

Only sounds that models.yaml names are played. If it names numbers too (`transfer_to`), calls are transferred to these
alone, since a caller may persuade a model to transfer a call anywhere.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from core.json_values import Json
from dispatch.routing.voice_config import VoiceConfig

NUMBER = re.compile(r"\+?[0-9]{3,20}|sips?:[!-~]{1,200}")
DIGITS = re.compile(r"[0-9*#w]{1,64}")
LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8}){0,2}")


@dataclass(frozen=True, slots=True)
class EndCall:
    """Hang up once the answer has been spoken."""


@dataclass(frozen=True, slots=True)
class TransferCall:
    """Hand the call over to a number."""

    number: str


@dataclass(frozen=True, slots=True)
class PressDigits:
    """Press keys, as in the menu of another phone system."""

    digits: str


@dataclass(frozen=True, slots=True)
class SwitchLanguage:
    """Speak and understand another language from now on. The answer goes on."""

    language: str


@dataclass(frozen=True, slots=True)
class PlaySound:
    """Play a recording. The answer goes on."""

    url: str


Action = EndCall | TransferCall | PressDigits | SwitchLanguage | PlaySound
ENDS_TURN = (EndCall, TransferCall, PressDigits)
"""Actions after which the model is not asked again."""
ALWAYS = ("end_call", "transfer_call", "press_digit")
"""Tools that are offered unless models.yaml says otherwise."""


class BadArguments(ValueError):
    """The model has called a tool in a way that cannot be carried out; the message is for the model."""


def end_call(_: Json, __: VoiceConfig) -> Action:
    """Make the action that ends the call."""
    return EndCall()


def transfer_call(arguments: Json, config: VoiceConfig) -> Action:
    """Make a transfer. Raises BadArguments for a number that is invalid or not in `transfer_to`."""
    number = _strip_number(_text(arguments, "number"))
    if config.transfer_to and number not in map(_strip_number, config.transfer_to):
        raise BadArguments(f"The call can be transferred to these numbers alone: {', '.join(config.transfer_to)}.")
    if not NUMBER.fullmatch(number):
        raise BadArguments("The number must be in the form +14155550100.")
    return TransferCall(number)


def press_digit(arguments: Json, _: VoiceConfig) -> Action:
    """Make the action that presses keys. Raises BadArguments."""
    given = arguments.get("digits", arguments.get("digit"))
    digits = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not DIGITS.fullmatch(digits):
        raise BadArguments("The digits must be of 0-9, * and #.")
    return PressDigits(digits)


def switch_language(arguments: Json, _: VoiceConfig) -> Action:
    """Make the action that switches the language. Raises BadArguments."""
    language = _text(arguments, "language")
    if not LANGUAGE.fullmatch(language):
        raise BadArguments("The language must be in the form en-US.")
    return SwitchLanguage(language)


def play_sound(arguments: Json, config: VoiceConfig) -> Action:
    """Make the action that plays a recording. Raises BadArguments."""
    url = config.sounds.get(_text(arguments, "name"))
    if url is None:
        raise BadArguments(f"There are these sounds: {', '.join(config.sounds)}.")
    return PlaySound(url)


TOOLS: Mapping[str, tuple[Callable[[Json, VoiceConfig], Action], str, str, str]] = {
    "end_call": (end_call, "End the phone call, once the caller has said goodbye.", "", ""),
    "transfer_call": (
        transfer_call,
        "Transfer the phone call to another number.",
        "number",
        "The phone number, such as +14155550100.",
    ),
    "press_digit": (
        press_digit,
        "Press keys of the phone, as in the menu of another phone system.",
        "digits",
        "The keys, of 0-9, * and #.",
    ),
    "switch_language": (
        switch_language,
        "Speak another language from now on.",
        "language",
        "Its BCP 47 tag, such as es-MX.",
    ),
    "play_sound": (play_sound, "Play a recording.", "name", "The recording's name."),
}
"""Name: the function that makes the action from the arguments, its description, and its only parameter's name and
description."""


def build_tools(actions: Iterable[str], config: VoiceConfig) -> list[Json]:
    """The tools of a chat request, as OpenAI spells them: the platform's, and those of models.yaml."""
    own = {tool["name"] for tool in config.tools}
    wanted = ALWAYS if config.platform_tools is None else config.platform_tools
    names = [name for name in wanted if name in actions and name not in own]
    if config.sounds and "play_sound" in actions and "play_sound" not in (*names, *own):
        names.append("play_sound")
    functions = [*[_function(name, config) for name in names], *[dict(tool) for tool in config.tools]]
    return [{"type": "function", "function": function} for function in functions]


def action_of(name: str, arguments: Json, config: VoiceConfig) -> Action:
    """The action of a call of a platform's tool. Raises BadArguments."""
    return TOOLS[name][0](arguments, config)


def arguments_of(text: str) -> Json:
    """A call's arguments; {} for a text that is no JSON object."""
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _function(name: str, config: VoiceConfig) -> Json:
    _, description, parameter, about = TOOLS[name]
    properties: dict[str, Any] = {parameter: {"type": "string", "description": about}} if parameter else {}
    choices = {"transfer_call": config.transfer_to, "play_sound": tuple(config.sounds)}.get(name)
    if choices:
        properties[parameter]["enum"] = list(choices)
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


def _strip_number(number: str) -> str:
    """A number without spaces and punctuation."""
    return number if number.startswith("sip") else re.sub(r"[\s().-]", "", number)


def _text(arguments: Json, name: str) -> str:
    value = arguments.get(name)
    return value.strip() if isinstance(value, str) else ""
