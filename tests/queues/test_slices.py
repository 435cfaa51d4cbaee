"""Slices of a queue: every SHA-1 belongs to exactly one, whatever the number of slices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.queues import slices
from mailman_ha.queues.slices import Slice

HASHES = 1 << 160
ODD_COUNTS = (65, 97, 1000, 1023, 65537, 10**9 + 7, 2**61 - 1, 10**40 + 1, HASHES - 1, HASHES)

digests = st.integers(0, HASHES - 1)
counts = st.one_of(
    st.integers(1, 64), st.sampled_from(ODD_COUNTS), st.integers(1, 10**12),
    st.integers(0, 159).map(lambda power: 1 << power),
)
geometries = counts.flatmap(
    lambda count: st.builds(Slice, st.integers(0, count - 1), st.just(count))
)
claimable = st.integers(1, 10**9 - 1).flatmap(
    lambda count: st.builds(Slice, st.integers(0, count - 1), st.just(count))
)
queue_names = st.text("abcxyzABZ059_-", min_size=1, max_size=64)


@pytest.mark.parametrize("count", range(1, 65))
def test_slices_cover_the_hash_space_exactly_once(count: int) -> None:
    next_hash = 0
    for number in range(count):
        lowest, highest = slices.bounds(Slice(number, count))
        assert lowest == next_hash <= highest
        next_hash = highest + 1
    assert next_hash == HASHES


@given(geometries)
def test_slices_of_any_count_meet_without_gap_or_overlap(slice: Slice) -> None:
    lowest, highest = slices.bounds(slice)
    assert lowest <= highest
    if slice.number == 0:
        assert lowest == 0
    else:
        assert slices.bounds(Slice(slice.number - 1, slice.count))[1] == lowest - 1
    if slice.number == slice.count - 1:
        assert highest == HASHES - 1
    else:
        assert slices.bounds(Slice(slice.number + 1, slice.count))[0] == highest + 1


@given(geometries)
def test_bounds_are_the_fractions_cut_down_to_whole_numbers(slice: Slice) -> None:
    """A slice begins at 2^160·i/n, cut down to a whole number, and ends before the next begins."""
    lowest, highest = slices.bounds(slice)
    assert lowest * slice.count <= HASHES * slice.number < (lowest + 1) * slice.count
    above = highest + 1
    assert above * slice.count <= HASHES * (slice.number + 1) < (above + 1) * slice.count


@given(geometries, digests)
def test_digest_is_in_the_one_slice_whose_bounds_hold_it(slice: Slice, digest: int) -> None:
    lowest, highest = slices.bounds(slice)
    for there in (lowest, highest, lowest + digest % (highest - lowest + 1)):
        assert slices.slice_of(there, slice.count) == slice.number
    if lowest > 0:
        assert slices.slice_of(lowest - 1, slice.count) == slice.number - 1
    if highest < HASHES - 1:
        assert slices.slice_of(highest + 1, slice.count) == slice.number + 1
    inside = slices.slice_of(digest, slice.count) == slice.number
    assert inside == (lowest <= digest <= highest)


@given(geometries, geometries)
def test_slices_overlap_where_a_digest_belongs_to_both(one: Slice, other: Slice) -> None:
    # Two ranges that meet hold the lowest digest of one of them in common.
    ends = (slices.bounds(one)[0], slices.bounds(other)[0])
    shared = any(
        slices.slice_of(digest, one.count) == one.number
        and slices.slice_of(digest, other.count) == other.number
        for digest in ends
    )
    assert slices.overlap(one, other) == slices.overlap(other, one) == shared


@pytest.mark.parametrize("count", range(1, 65))
def test_slices_of_one_geometry_overlap_only_with_themselves(count: int) -> None:
    for one in range(count):
        for other in range(count):
            assert slices.overlap(Slice(one, count), Slice(other, count)) == (one == other)


def test_half_of_a_queue_overlaps_with_its_own_quarters_only() -> None:
    lower = Slice(0, 2)
    assert [slices.overlap(lower, Slice(number, 4)) for number in range(4)] == [
        True, True, False, False,
    ]
    assert slices.overlap(lower, Slice(1, 3)) and not slices.overlap(lower, Slice(2, 3))


@pytest.mark.parametrize(("number", "count"), [
    (0, 0), (0, -1), (-1, 4), (4, 4), (5, 4), (0, HASHES + 1),
])
def test_slice_that_cannot_be_is_refused(number: int, count: int) -> None:
    with pytest.raises(ValueError, match="there is no slice"):
        Slice(number, count)


@given(queue_names, claimable)
def test_lock_name_is_read_back(queue: str, slice: Slice) -> None:
    name = slices.lock_name(queue, slice)
    assert name == f"qfiles:{queue}:{slice.number}:{slice.count}.lock"
    assert slices.of_lock_name(name) == (queue, slice)


@pytest.mark.parametrize("queue", [
    "", "in/out", "../in", "in:0", "in.lock", "in\n", "ïn", "in out", "in|n1|7", "x" * 65, "in\0",
])
def test_queue_whose_name_a_lock_cannot_carry_is_refused(queue: str) -> None:
    with pytest.raises(ValueError, match="cannot be claimed"):
        slices.lock_name(queue, Slice(0, 4))


def test_so_many_slices_that_their_lock_could_not_be_read_back_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be claimed"):
        slices.lock_name("in", Slice(0, 10**9))


@pytest.mark.parametrize("name", [
    "", "qfiles:", ".lock", "qfiles:.lock", "test.lock", "master-qrunner", "qfiles.lock",
    "qfiles:in.lock", "qfiles:in:0.lock", "qfiles:in:0:4", "qfiles:in:0:4.lock\n",
    "qfiles:in:0:4.lock.n1.42.0", "qfiles:in:0:4.lock|n1|42|7", "Qfiles:in:0:4.lock",
    "qfiles:in:0:4:8.lock", "qfiles:in:4:4.lock", "qfiles:in:0:0.lock", "qfiles:in:-1:4.lock",
    "qfiles:in:00:4.lock", "qfiles:in:0:04.lock", "qfiles:in: 0:4.lock", "qfiles:in:0:4 .lock",
    "qfiles:in:+0:4.lock", "qfiles:in:1_0:40.lock", "qfiles:in:٣:4.lock", "qfiles:in:²:4.lock",
    "qfiles:in:0:1000000000.lock", f"qfiles:in:0:{'9' * 5000}.lock", "qfiles::0:4.lock",
    "qfiles:../in:0:4.lock", "qfiles:i\nn:0:4.lock", "qfiles:\udcff:0:4.lock", "qfiles:in::4.lock",
])
def test_lock_of_another_name_claims_no_slice(name: str) -> None:
    assert slices.of_lock_name(name) is None


@given(st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(("qfiles", ":", "in", "0", "1", "4", ".lock", "\n", "²", "\udcff", "-")),
        max_size=9,
    ).map("".join),
    st.lists(st.sampled_from(("in", "0", "00", "1", "4", "", "9" * 10, "²")), max_size=5).map(
        lambda parts: f"qfiles:{':'.join(parts)}.lock"
    ),
))
def test_lock_name_is_read_in_one_way_or_not_at_all(name: str) -> None:
    claimed = slices.of_lock_name(name)
    if claimed is not None:
        assert slices.lock_name(*claimed) == name
