"""Short histories with one interruption each: between them they come by every boundary that any
history can come by, so that none is left to chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21

from tests.histories.schedule import Stop

Story = list[list[Any]]


def _begin(format: str = FORMAT_21) -> list[Any]:
    return ["begin", {"format": format, "fencing": True}]


def _take(node: str = "n1", protocol: str = "Mailman", lifetime: float = 3600.0, lock: int = 0,
          stop: Stop = None, killed: bool = False) -> list[Any]:
    return ["a_process_takes_a_lock_and_is_killed" if killed else "a_process_takes_a_lock",
            {"node": node, "lock": lock, "protocol": protocol, "lifetime": lifetime, "stop": stop,
             "is_cgi": False}]


def _dead(stop: Stop, lifetime: float = 3600.0, is_cgi: bool = False) -> list[Any]:
    """The sweep of a lock whose owner has died, interrupted."""
    return ["a_janitor_is_interrupted_at_a_dead_lock",
            {"node": "n1", "lock": 0, "protocol": "Mailman", "lifetime": lifetime,
             "is_cgi": is_cgi, "stop": stop}]


def _handled(how: str, stop: Stop) -> list[Any]:
    """Another file takes the lock's place right before a sweep moves it."""
    return ["a_dead_lock_is_handled_under_a_sweep",
            {"node": "n1", "lock": 0, "protocol": "Mailman", "lifetime": 3600.0,
             "where": (0, "release._move:rename"), "how": how, "stop": stop}]


def _sweep(stop: Stop, node: str = "n1") -> list[Any]:
    return ["a_janitor_sweeps", {"node": node, "stop": stop}]


def _goes_on(stop: Stop) -> list[Any]:
    return ["a_sweep_that_stood_still_goes_on", {"number": 0, "stop": stop}]


_EXPIRES = ["the_guard_expires", {}]


def _after(died_at: str) -> Callable[[Stop], Story]:
    """The sweep that ends what one has left that died there."""
    return lambda stop: [
        _begin(), _dead(None), _dead(((0, died_at), "die"), lifetime=-60.0), _EXPIRES, _sweep(stop)]


SCENARIOS: dict[str, Callable[[Stop], Story]] = {
    "a dead lock": lambda stop: [_begin(), _dead(stop)],
    "a dead lock about to expire": lambda stop: [_begin(), _dead(stop, lifetime=-60.0)],
    "a dead CGI's lock about to expire": lambda stop: [
        _begin(), _dead(stop, lifetime=-60.0, is_cgi=True)],
    "after a release that died before its move": _after("release._move:rename"),
    "after a release that died at its evidence": _after("release.log:fsync"),
    "after a sweep that died as it waited for the guard": lambda stop: [
        _begin(), _dead(((0, "holding._wait_for:link"), "die")), _EXPIRES, _sweep(stop)],
    "another lock in its place": lambda stop: [_begin(), _handled("take", stop)],
    "a directory in its place": lambda stop: [_begin(), _handled("a directory", stop)],
    "two other locks in its place": lambda stop: [
        _begin(), _handled("take", ((0, "release._put_back:link"), "stand still")), _take(),
        _goes_on(stop)],
    "a lost node's lock": lambda stop: [
        _begin(), _take("n2", killed=True), ["a_node_goes", {"node": "n2", "how": "lost"}],
        _sweep(stop)],
    "2.1 takes": lambda stop: [_begin(), _take(stop=stop)],
    "2.1 waits": lambda stop: [_begin(), _take(), _take(stop=stop)],
    "2.1 breaks": lambda stop: [_begin(), _take(lifetime=-60.0, killed=True), _take(stop=stop)],
    "2.1 gives back": lambda stop: [
        _begin(), _take(),
        ["a_holder_gives_back_or_prolongs", {"number": 0, "what": "unlock", "stop": stop}]],
    "2.1 hands over": lambda stop: [
        _begin(), _take(), ["a_starter_hands_its_lock_to_a_child", {"number": 0, "stop": stop}]],
    "3 takes": lambda stop: [_begin(FORMAT_3), _take(stop=stop)],
    "3 waits": lambda stop: [_begin(FORMAT_3), _take(), _take(stop=stop)],
    "3 breaks": lambda stop: [
        _begin(FORMAT_3), _take(lifetime=-60.0, killed=True), _take(stop=stop)],
    "3 gives back": lambda stop: [
        _begin(FORMAT_3), _take(),
        ["a_holder_gives_back_or_prolongs", {"number": 0, "what": "unlock", "stop": stop}]],
    "we take": lambda stop: [_begin(), _take(protocol="ours", stop=stop)],
    "we break": lambda stop: [
        _begin(), _take(lifetime=-60.0, killed=True), _take(protocol="ours", stop=stop)],
    "we break, as does another": lambda stop: [
        _begin(), _take(lifetime=-60.0, killed=True),
        _take(protocol="ours", stop=((0, "holding._break_if_expired:rename"), "stand still")),
        ["an_operator_has_a_file_in_hand", {"number": 0, "how": "expire"}], _take(),
        ["a_process_that_stood_still_goes_on", {"number": 0, "stop": stop}]],
}
