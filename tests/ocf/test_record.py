"""Records behave as frozen dataclasses do, at a fraction of the cost."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.ocf.record import record, replace


@record
class Lock:
    """A record."""

    KIND: ClassVar[str] = "lock"

    name: str
    nlink: int = 2
    owner: str | None = None

    def held(self) -> bool:
        """Records have methods like any class."""
        return self.nlink == 2


@dataclass(frozen=True)
class Reference:
    """The same as a dataclass."""

    KIND: ClassVar[str] = "lock"

    name: str
    nlink: int = 2
    owner: str | None = None


VALUES = st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.none() | st.just("x"))


@given(VALUES, VALUES)
def test_equality_hash_and_text_are_those_of_a_dataclass(
    one: tuple[str, int, str | None], other: tuple[str, int, str | None]
) -> None:
    assert (Lock(*one) == Lock(*other)) == (Reference(*one) == Reference(*other))
    if one == other:
        assert hash(Lock(*one)) == hash(Lock(*other))
    assert repr(Lock(*one)) == repr(Reference(*one)).replace("Reference", "Lock")


@given(VALUES, st.integers(0, 3))
def test_fields_are_given_by_position_or_by_name(
    values: tuple[str, int, str | None], by_position: int
) -> None:
    named = dict(zip(("name", "nlink", "owner")[by_position:], values[by_position:]))
    assert Lock(*values[:by_position], **named) == Lock(*values)  # type: ignore[arg-type]


@given(VALUES, st.integers(1, 9))
def test_replace_changes_a_copy(values: tuple[str, int, str | None], nlink: int) -> None:
    lock = Lock(*values)
    changed = replace(lock, nlink=nlink)
    expected = dataclass_replace(Reference(*values), nlink=nlink)
    assert (changed.name, changed.nlink, changed.owner) == (
        expected.name,
        expected.nlink,
        expected.owner,
    )
    assert lock == Lock(*values)


def test_defaults_fill_in() -> None:
    assert Lock("a") == Lock("a", 2, None)
    assert Lock("a").held()
    assert Lock.KIND == "lock"


@pytest.mark.parametrize(
    ("positional", "named", "complaint"),
    [
        ((), {}, "lacks a value for name"),
        (("a", 1, None, "more"), {}, "3 fields, 4 values"),
        (("a",), {"nmae": 1}, "no field 'nmae'"),
        (("a",), {"name": "b"}, "'name' was given twice"),
    ],
)
def test_wrong_fields_are_refused(
    positional: tuple[object, ...], named: dict[str, object], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        Lock(*positional, **named)  # type: ignore[arg-type]


def test_replace_of_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="no field 'nmae'"):
        replace(Lock("a"), nmae="b")


def test_record_cannot_be_changed() -> None:
    lock = Lock("a")
    with pytest.raises(AttributeError, match="frozen"):
        lock.nlink = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del lock.nlink
    assert lock == Lock("a")


def test_records_of_different_classes_are_never_equal() -> None:
    @record
    class Other:
        name: str
        nlink: int = 2
        owner: str | None = None

    others: list[object] = [Other("a"), ("a", 2, None)]
    assert Lock("a") not in others


def test_base_record_lends_its_fields() -> None:
    @record
    class Base:
        first: int

    @record
    class Derived(Base):
        second: int = 2

    @record
    class Same(Base):
        pass

    assert repr(Derived(1)).endswith("Derived(first=1, second=2)")
    assert Same(1) != Base(1)
    with pytest.raises(TypeError):
        Base(1, 2)  # type: ignore[call-arg]


def test_post_init_may_refuse() -> None:
    @record
    class Positive:
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    assert Positive(1).number == 1
    with pytest.raises(ValueError, match="negative"):
        replace(Positive(1), number=-1)


def test_own_methods_are_kept() -> None:
    @record
    class Quiet:
        secret: str

        def __repr__(self) -> str:
            return "Quiet(...)"

    assert repr(Quiet("x")) == "Quiet(...)"


def test_record_of_records_can_be_hashed() -> None:
    assert len({Lock("a"), Lock("a"), Lock("b")}) == 2
    with pytest.raises(TypeError):
        hash(Lock(["unhashable"]))  # type: ignore[arg-type]


def test_changeable_default_is_refused() -> None:
    with pytest.raises(TypeError, match="must not be changeable"):

        @record
        class _Wrong:
            names: list[str] = []  # noqa: RUF012


def test_field_without_default_after_one_with_is_refused() -> None:
    with pytest.raises(TypeError, match="lacks a default"):

        @record
        class _Wrong:
            first: int = 1
            second: int  # type: ignore[misc]
