"""Whether a JSON value is what a vendor's own SDK says it takes: its TypedDicts, to the letter."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from typing_extensions import ReadOnly, TypeAliasType, get_type_hints, is_typeddict

SCALARS: Mapping[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    None: (NoneType,),
    NoneType: (NoneType,),
}

_hints = cache(partial(get_type_hints, include_extras=True))


def faults_of(value: Any, kind: Any, at: str = "") -> Iterator[str]:
    """What is wrong with a value, as `path: what`; nothing when it is of that kind. Unknown keys are wrong."""
    kind = _plain(kind)
    origin = get_origin(kind)
    if is_typeddict(kind):
        yield from _of_fields(value, kind, at)
    elif origin in (Union, UnionType):
        yield from _of_one(value, get_args(kind), at)
    elif origin is Literal:
        if value not in get_args(kind):
            yield f"{at}: Input should be {' or '.join(map(repr, get_args(kind)))}"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            yield f"{at}: Input should be an object"
    elif origin is not None:  # list, Iterable, the SDK's own SequenceNotStr
        yield from _of_items(value, get_args(kind)[0], at)
    elif kind not in (Any, object) and type(value) not in SCALARS.get(kind, ()):
        yield f"{at}: Input should be a valid {getattr(kind, '__name__', kind)}"


def _plain(kind: Any) -> Any:
    """The kind without what is said about it besides."""
    while isinstance(kind, TypeAliasType) or get_origin(kind) in (Required, NotRequired, ReadOnly, Annotated):
        kind = kind.__value__ if isinstance(kind, TypeAliasType) else get_args(kind)[0]
    return kind


def _of_fields(value: Any, kind: Any, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: Input should be an object"
        return
    hints = _hints(kind)
    for name, each in value.items():
        where = f"{at}.{name}" if at else name
        if name not in hints:
            yield f"{where}: Extra inputs are not permitted"
        else:
            yield from faults_of(each, hints[name], where)
    yield from (f"{at}.{name}".lstrip(".") + ": Field required" for name in kind.__required_keys__ - value.keys())


def _of_one(value: Any, kinds: Sequence[Any], at: str) -> Iterator[str]:
    """The faults of the kind that comes nearest: the one whose `type` it has, or the one with the fewest."""
    found = [list(faults_of(value, kind, at)) for kind in kinds]
    if all(found):
        mistyped = (f"{at}:", f"{at}.type:", f"{at}.role:")
        found.sort(key=lambda faults: (any(fault.startswith(mistyped) for fault in faults), len(faults)))
        yield from found[0]


def _of_items(value: Any, kind: Any, at: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{at}: Input should be a valid list"
        return
    for number, each in enumerate(value):
        yield from faults_of(each, kind, f"{at}.{number}")
