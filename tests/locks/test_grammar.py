"""Names of claim files: what is written is read again, and nothing makes the reader stumble."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mailman_ha.locks import grammar
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, GREATEST_PID, Owner

MASTER = {FORMAT_21: "master-qrunner", FORMAT_3: "master.lck"}

labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
#: Host names with dots, and with labels that are all digits.
hosts = st.lists(st.one_of(labels, st.integers(0, 999).map(str)), min_size=1, max_size=4).map(
    ".".join
)
pids = st.integers(1, GREATEST_PID)
#: List names with dots, digits, `@`, and `.lock.` inside.
list_names = st.lists(
    st.one_of(labels, st.sampled_from(("lock", "a.lock", "5", "list@example.org", "Ünï"))),
    min_size=1, max_size=4,
).map(".".join)
lock_names_21 = st.one_of(
    st.sampled_from(("master-qrunner", "creator", "gate_news.lock", "foo.archiver.lock")),
    list_names.map(lambda name: f"{name}.lock"),
)
lock_names_3 = st.one_of(
    st.sampled_from(("master.lck", "dbcreate.lck", "mta", "a.example.org-maildir.lock")),
    list_names.map(lambda name: f"{name}.lck"),
)
file_names = st.one_of(
    st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)
    .map(os.fsdecode),
    st.text(
        st.sampled_from("abl.|0159-_\n\x1b\udcff lock"), min_size=1, max_size=60
    ),
    st.builds(
        lambda parts: "".join(parts),
        st.lists(
            st.sampled_from(
                ("master-qrunner", "x.lock", ".lock.", ".", "|", "n1", "5", "0012", "-1", "٣", "²",
                 "99999999999999999999", "master.lck", "creator", "")
            ), max_size=8,
        ),
    ).filter(bool),
)


@given(lock_names_21, hosts, pids, st.integers(0, 2**40))
def test_21_claim_is_read_as_it_was_written(lock: str, host: str, pid: int, counter: int) -> None:
    claim = grammar.claim_name(FORMAT_21, lock, host, pid, counter)
    assert claim == f"{lock}.{host}.{pid}.{counter}"
    readings = grammar.owners_of_claim(FORMAT_21, lock, claim)
    assert readings[0] == Owner(host, pid)
    assert set(readings) <= {Owner(host, pid), Owner(f"{host}.{pid}", counter)}


@given(lock_names_21, hosts, pids)
def test_21_claim_after_the_hand_over_is_read_as_it_was_written(
    lock: str, host: str, pid: int
) -> None:
    readings = grammar.owners_of_claim(FORMAT_21, lock, f"{lock}.{host}.{pid}")
    assert Owner(host, pid) in readings


@given(lock_names_3, hosts, pids, st.integers(0, 2**63 - 1))
def test_3_claim_has_exactly_one_reading(lock: str, host: str, pid: int, number: int) -> None:
    claim = grammar.claim_name(FORMAT_3, lock, host, pid, number)
    assert grammar.owners_of_claim(FORMAT_3, lock, claim) == (Owner(host, pid),)
    assert grammar.locks_claimed_by(FORMAT_3, claim, "master.lck") == ((lock, (Owner(host, pid),)),)


@given(lock_names_21, hosts, pids, st.integers(0, 10**6), st.booleans())
def test_21_claim_alone_is_read_for_the_lock_it_was_made_for(
    lock: str, host: str, pid: int, counter: int, handed_over: bool
) -> None:
    """Whatever else it may mean: `a.lock` may be a list, so `.lock.` may stand in a list's name."""
    claim = f"{lock}.{host}.{pid}" + ("" if handed_over else f".{counter}")
    found = dict(grammar.locks_claimed_by(FORMAT_21, claim, "master-qrunner"))
    assert Owner(host, pid) in found[lock]
    for other, owners in found.items():
        assert claim.startswith(f"{other}.") and owners


def test_ambiguous_name_gives_both_owners() -> None:
    assert grammar.owners_of_claim(FORMAT_21, "x.lock", "x.lock.a.5.12") == (
        Owner("a", 5), Owner("a.5", 12)
    )
    assert grammar.owners_of_claim(FORMAT_21, "x.lock", "x.lock.10.0.0.5.4711.3") == (
        Owner("10.0.0.5", 4711), Owner("10.0.0.5.4711", 3)
    )


def test_claim_of_a_list_called_lock_is_read_for_both_lists() -> None:
    found = dict(grammar.locks_claimed_by(FORMAT_21, "a.lock.lock.n1.5.0", "master-qrunner"))
    assert Owner("n1", 5) in found["a.lock.lock"]
    assert Owner("lock.n1", 5) in found["a.lock"]


@pytest.mark.parametrize("claim", [
    "x.lock", "x.lock.", "x.lock..", "x.lock.a", "x.lock.a.", "x.lock..5", "x.lock.a.b",
    "x.lock.a.0", "x.lock.a.05", "x.lock.a.-5", "x.lock.a.+5", "x.lock.a.5 ", "x.lock.a.٣",
    "x.lock.a.4194305", "x.lock.a.99999999999999999999", "x.lock.a b.5", "x.lock.a\n.5",
    "x.lock.a/b.5", "y.lock.a.5", "xx.lock.a.5", "x.locka.5", "x.lock.\udcff.5",
    f"x.lock.{'h' * 256}.5",
])
def test_what_no_mailman_writes_names_nobody(claim: str) -> None:
    assert grammar.owners_of_claim(FORMAT_21, "x.lock", claim) == ()


@pytest.mark.parametrize("claim", [
    "m.lck", "m.lck|", "m.lck|h|5", "m.lck|h|5|", "m.lck|h|5|x", "m.lck||5|1", "m.lck|h||1",
    "m.lck|h|0|1", "m.lck|h|05|1", "m.lck|h|5|01", "m.lck|h|5|-1", "m.lck|h|4194305|1",
    "m.lck|h x|5|1", "m.lck|h|5|1|", "n.lck|h|5|1", "m.lck|\x1b[2J|5|1", "m.lck^h^5^1",
])
def test_what_no_mailman_3_writes_names_nobody(claim: str) -> None:
    assert grammar.owners_of_claim(FORMAT_3, "m.lck", claim) == ()


@settings(max_examples=400)
@given(file_names, file_names, st.sampled_from((FORMAT_21, FORMAT_3)))
@example("x.lock", "x.lock." + "9" * 250, FORMAT_21)
@example("", "|||", FORMAT_3)
def test_no_name_raises_and_whatever_is_read_is_sound(lock: str, name: str, format: str) -> None:
    master = MASTER[format]
    found = list(grammar.owners_of_claim(format, lock, name))
    for claimed, owners in grammar.locks_claimed_by(format, name, master):
        assert name.startswith(claimed) and owners
        assert set(owners) == set(grammar.owners_of_claim(format, claimed, name))
        found += owners
    assert grammar.is_lock_name(format, name, master) in (True, False)
    for owner in found:
        assert 0 < owner.pid <= GREATEST_PID
        assert owner.host and owner.host.isascii() and owner.host.isprintable()


@given(st.one_of(lock_names_21, lock_names_3), hosts, pids, st.integers(0, 10**9))
def test_claim_file_is_never_taken_for_a_lock(lock: str, host: str, pid: int, serial: int) -> None:
    for format in (FORMAT_21, FORMAT_3):
        claim = grammar.claim_name(format, lock, host, pid, serial)
        assert not grammar.is_lock_name(format, claim, MASTER[format])


def test_locks_are_known_by_name_in_both_versions() -> None:
    for name in ("master-qrunner", "test.lock", "a@example.org.lock", "creator", "gate_news.lock"):
        assert grammar.is_lock_name(FORMAT_21, name, "master-qrunner")
    for name in ("master.lck", "dbcreate.lck", "mailman-cfg.lck", "mta", "l.example.org-maildir"
                 ".lock", "gatenews.lock"):
        assert grammar.is_lock_name(FORMAT_3, name, "master.lck")
    for format in (FORMAT_21, FORMAT_3):
        for name in ("README", "lock", "config.pck", "", ".", "..", ".nfs0123"):
            assert not grammar.is_lock_name(format, name, MASTER[format])
    assert grammar.is_lock_name(FORMAT_21, "our-master", "our-master")
