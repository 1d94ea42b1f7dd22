"""The messages between the parts: they survive the way, and nothing else does."""

from __future__ import annotations

import typing
from enum import StrEnum
from typing import Any

import msgspec
import pytest

from heliostat._messages import work
from heliostat._messages.base import Message
from heliostat._messages.resizing import ResizeState
from heliostat._messages.runtime import RuntimeState

MESSAGES = [kind for kind in Message.__subclasses__() if kind.__module__.startswith(work.__package__)]


def _value(kind: Any, filled: bool) -> Any:
    """Make a value of a type: with ``filled`` the fullest, else the emptiest."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    match origin:
        case None if isinstance(kind, type) and issubclass(kind, Message):
            return _make(kind, filled)
        case None if isinstance(kind, type) and issubclass(kind, StrEnum):
            return list(kind)[-1 if filled else 0]
        case None:
            return {str: "täxt \u2028\0", int: 2**40, float: 0.1, bool: True}[kind] if filled else kind()
        case _ if origin is list:
            return [_value(arguments[0], filled)] if filled else []
        case _ if origin is dict:
            value = [1, None, {"a": 1.5}] if arguments[1] is Any else _value(arguments[1], filled)
            return {"key": value} if filled else {}
        case _:
            chosen = next(argument for argument in arguments if argument is not type(None))
            return _value(chosen, filled) if filled else None


def _make(kind: type[Message], filled: bool) -> Message:
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], filled) for name in kind.__struct_fields__})


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_messages_survive_json(kind: type[Message], filled: bool) -> None:
    """Every message comes out of JSON as it went in, full or empty."""
    message = _make(kind, filled)
    encoded = msgspec.json.encode(message)
    assert msgspec.json.decode(encoded, type=kind) == message
    assert set(msgspec.json.decode(encoded)) == set(kind.__struct_fields__), "unknown values are written out"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_messages_are_strict_and_frozen(kind: type[Message]) -> None:
    """An unknown field or a wrong type is an error, and a message cannot be changed."""
    message = _make(kind, True)
    fields = msgspec.json.decode(msgspec.json.encode(message))
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**fields, "unheard_of": 1}, kind)
    name = kind.__struct_fields__[0]
    with pytest.raises(msgspec.ValidationError, match="Expected"):
        msgspec.convert({**fields, name: object()}, kind)
    with pytest.raises(AttributeError):
        setattr(message, name, None)


def test_states_say_what_they_allow() -> None:
    """Usable, settled and finished are decided for every state."""
    assert [s for s in RuntimeState if s.usable] == ["ready", "resizing", "degraded"]
    assert [s for s in RuntimeState if not s.settled] == ["starting", "resizing", "stopping"]
    assert [s for s in ResizeState if not s.finished] == ["running", "waiting"]
