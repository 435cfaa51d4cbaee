"""A module of the library with a defect planted in it, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path


@contextmanager
def planted(module_name: str, sound: str, defect: str) -> Iterator[None]:
    """Put `defect` in the place of the one `sound` in the module's text, and load it anew in its
    place: functions that others have imported see the new globals."""
    module = import_module(module_name)
    text = Path(str(module.__file__)).read_text()
    assert text.count(sound) == 1, f"{module_name} has {sound!r} {text.count(sound)} times"
    before = dict(module.__dict__)
    try:
        exec(compile(text.replace(sound, defect), str(module.__file__), "exec"), module.__dict__)
        yield
    finally:
        module.__dict__.clear()
        module.__dict__.update(before)
