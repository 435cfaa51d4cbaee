"""Frozen records for the whole project, in place of dataclasses.

Importing `dataclasses` costs as much as starting two interpreters; a monitor runs every few
seconds on every node.  A record is a class with annotations:

    @record
    class Lock:
        name: str
        nlink: int = 2

It takes its fields by position or by keyword, cannot be changed afterwards, compares and hashes
by value, and says what it holds when printed.  `replace` makes a changed copy.  A `__post_init__`
is called when all fields are there: the place to check them.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    from typing_extensions import dataclass_transform

    _Class = TypeVar("_Class", bound=type[Any])
    _Record = TypeVar("_Record")
else:

    def dataclass_transform(**_features):
        """Take the type checker's place: leave the decorator as it is."""
        return lambda decorator: decorator


def _annotations(cls: "type[Any]") -> "dict[str, Any]":
    """The class's own annotations: before Python 3.10 the attribute may be a base's."""
    if sys.version_info >= (3, 10):
        return cls.__annotations__
    own: dict[str, Any] = cls.__dict__.get("__annotations__", {})
    return own


def _init(self: "Any", *positional: "Any", **named: "Any") -> None:
    fields: tuple[str, ...] = self.__record_fields__
    title = type(self).__name__
    if len(positional) > len(fields):
        raise TypeError(f"{title} has {len(fields)} fields, {len(positional)} values were given")
    values = dict(zip(fields, positional))
    for name, value in named.items():
        if name not in fields:
            raise TypeError(f"{title} has no field {name!r}")
        if name in values:
            raise TypeError(f"{title}: field {name!r} was given twice")
        values[name] = value
    if len(values) < len(fields):
        missing = []
        for name in fields:
            if name not in values:
                try:
                    values[name] = self.__record_defaults__[name]
                except KeyError:
                    missing.append(name)
        if missing:
            raise TypeError(f"{title} lacks a value for {', '.join(missing)}")
    self.__dict__.update(values)
    check = getattr(self, "__post_init__", None)
    if check is not None:
        check()


def _values(instance: "Any") -> "tuple[Any, ...]":
    held = instance.__dict__
    return tuple(held[name] for name in instance.__record_fields__)


def _eq(self: "Any", other: object) -> "Any":
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: "Any") -> int:
    return hash((type(self), _values(self)))


def _repr(self: "Any") -> str:
    shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__record_fields__)
    return f"{type(self).__name__}({shown})"


def _refuse_change(self: "Any", name: str, *_value: "Any") -> "NoReturn":
    raise AttributeError(
        f"{type(self).__name__} is a frozen record: {name!r} stays as it is; use replace()"
    )


@dataclass_transform(frozen_default=True)
def record(cls: "_Class") -> "_Class":
    """Make a class with annotations a frozen record; a base that is a record lends its fields.

    Raises TypeError for a default that could be changed in place and for a field without a
    default after one with a default, as both are mistakes that show up late.
    """
    fields: list[str] = list(getattr(cls, "__record_fields__", ()))
    defaults: dict[str, Any] = dict(getattr(cls, "__record_defaults__", {}))
    for name, annotation in _annotations(cls).items():
        if "ClassVar" in str(annotation):
            continue
        if name not in fields:
            fields.append(name)
        if name in cls.__dict__:
            default = cls.__dict__[name]
            if type(default) in (list, dict, set):
                raise TypeError(f"{cls.__name__}.{name}: a default must not be changeable")
            defaults[name] = default
        elif defaults:
            raise TypeError(f"{cls.__name__}.{name} lacks a default, a field before it has one")
    for name, value in (
        ("__record_fields__", tuple(fields)),
        ("__record_defaults__", defaults),
        ("__match_args__", tuple(fields)),
    ):
        setattr(cls, name, value)
    for name, method in (
        ("__init__", _init),
        ("__eq__", _eq),
        ("__hash__", _hash),
        ("__repr__", _repr),
        ("__setattr__", _refuse_change),
        ("__delattr__", _refuse_change),
    ):
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return cls


def replace(original: "_Record", **changes: "Any") -> "_Record":
    """Copy a record with some fields changed.  Raises TypeError for a field it does not have."""
    held: dict[str, Any] = dict(original.__dict__)
    held.update(changes)
    return type(original)(**held)
