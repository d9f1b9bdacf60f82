"""Whether a body is what the oci package's own models say: every field known, typed, and of an allowed value.

The real service answers an unknown or misspelt field anywhere with 400 and the same sentence.
"""

import re
from types import ModuleType
from typing import Any

from oci.generative_ai_inference import models

LISTED = re.compile(r"list\[(.*)\]\Z")
MAPPED = re.compile(r"dict\(str, (.*)\)\Z")
SIMPLE: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "datetime": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}


class Misshapen(Exception):
    """The body is not of that shape; the text says where, for whoever mends the test."""


def check(value: Any, kind: str, at: str = "", source: ModuleType = models) -> None:
    """Raises Misshapen when the value is not a `kind` of `source`, in the notation of swagger_types. Nulls are refused
    too.
    """
    if listed := LISTED.match(kind):
        _expect(isinstance(value, list), f"{at}: no list")
        for place, each in enumerate(value):
            check(each, listed[1], f"{at}[{place}]", source)
    elif mapped := MAPPED.match(kind):
        _expect(isinstance(value, dict), f"{at}: no mapping")
        for key, each in value.items():
            check(each, mapped[1], f"{at}.{key}", source)
    elif kind in SIMPLE:
        fits = isinstance(value, SIMPLE[kind]) and (kind == "bool" or not isinstance(value, bool))
        _expect(fits, f"{at}: {value!r} is no {kind}")
    elif kind == "object":
        _expect(value is not None, f"{at}: null")
    else:
        _expect(isinstance(value, dict), f"{at}: no {kind}")
        _check_fields(value, _class_of(value, kind, at, source), at, source)


def _check_fields(value: dict[str, Any], cls: type, at: str, source: ModuleType) -> None:
    shape: Any = cls()
    attributes = {wire: name for name, wire in shape.attribute_map.items()}
    for key, each in value.items():
        where = f"{at}.{key}"
        _expect(key in attributes, f"{where}: {cls.__name__} has no such field")
        check(each, shape.swagger_types[attributes[key]], where, source)
        try:
            setattr(shape, attributes[key], each)
        except ValueError as error:
            raise Misshapen(f"{where}: {error}") from error
    for wire, name in attributes.items():
        required = "**[Required]**" in (getattr(cls, name).__doc__ or "")
        _expect(wire in value or not required, f"{at}.{wire}: missing in {cls.__name__}")


def _class_of(value: dict[str, Any], kind: str, at: str, source: ModuleType) -> type:
    """The class itself, or the one that the discriminator names."""
    base: Any = getattr(source, kind)
    if "get_subtype" not in vars(base):  # a subtype inherits it
        return base
    try:
        name = base.get_subtype(value)
    except KeyError as error:
        raise Misshapen(f"{at}.{error.args[0]}: missing, so nobody knows which {kind} it is") from error
    _expect(name != kind, f"{at}: there is no such {kind}")
    return getattr(source, name)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise Misshapen(what)
