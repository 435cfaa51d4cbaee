"""What an action is handed: which resource, which parameters, how long, and where to log."""

from __future__ import annotations

import os
import stat

from mailman_ha.ocf import codes, environment
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.outcome import Refusal
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_flag, parse_integer, parse_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from mailman_ha.ocf.deadline import Deadline
    from mailman_ha.ocf.log import Log

    _Value = TypeVar("_Value")


@record
class Call:
    """One action asked of an agent.

    `parameters` holds the text of every declared parameter, with the default where none was
    given ('' where there is no default either); `given_names` are those the configuration sets.
    Only a stop or a probe can have `faults`: what is wrong with parameters in whose place the
    defaults stand, so what it finds gone may still be there under the value that was meant.
    `check_level` is the highest level the agent offers that is not above the one asked for.
    `node` is the cluster's name for this node (None by hand); `clone_number`, `clone_max`
    and `clone_node_max` are None outside a clone; `globally_unique` says whether the numbers of
    its instances tell them apart.
    """

    action: str
    instance: str
    parameters: Mapping[str, str]
    deadline: Deadline
    log: Log
    given_names: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()
    check_level: int = 0
    is_probe: bool = False
    node: str | None = None
    state_path: str = environment.STATE_DIRECTORY
    clone_number: int | None = None
    clone_max: int | None = None
    clone_node_max: int | None = None
    globally_unique: bool = False

    def given(self, name: str) -> bool:
        """Whether the cluster configuration sets this parameter itself."""
        return name in self.given_names

    def text(self, name: str) -> str:
        """The parameter as text; '' if it is neither given nor has a default.

        Raises KeyError for a parameter the agent does not declare.
        """
        return self.parameters[name]

    def integer(self, name: str) -> int:
        """The parameter as a whole number.  Refuses with ERR_CONFIGURED if it is none."""
        return self._read(name, parse_integer)

    def seconds(self, name: str) -> float:
        """The parameter as a span of time in seconds.  Refuses with ERR_CONFIGURED otherwise."""
        return self._read(name, parse_seconds)

    def flag(self, name: str) -> bool:
        """The parameter as yes or no.  Refuses with ERR_CONFIGURED if it is neither."""
        return self._read(name, parse_flag)

    def _read(self, name: str, parse: Callable[[str], _Value]) -> _Value:
        text = self.parameters[name]
        try:
            return parse(text)
        except ValueError as error:
            found = f"is '{escape(text, 80)}'" if text else "is not set"
            raise Refusal(
                codes.ERR_CONFIGURED, f"parameter {name} {found} but {error}; change it"
            ) from None

    @property
    def state_dir(self) -> str:
        """The directory for what must not outlive a reboot; made if missing.

        Refuses with ERR_PERM where it cannot be made, or where somebody else could have put
        files into it: an agent running as root acts on what it reads there.
        """
        path = self.state_path
        try:
            try:
                found = os.stat(path)
            except FileNotFoundError:
                os.makedirs(path, exist_ok=True)
                os.chmod(path, 0o755)  # Pacemaker's umask would leave 0750
                found = os.stat(path)
        except OSError as error:
            raise Refusal(
                codes.ERR_PERM,
                f"cannot use the state directory {escape(path)}: {error.strerror};"
                " run the agent as root, or set HA_RSCTMP to a directory of its own",
            ) from None
        shared = found.st_mode & 0o022 and not found.st_mode & 0o1000
        if not stat.S_ISDIR(found.st_mode):
            wrong = "is not a directory"
        elif found.st_uid not in (0, os.geteuid()):
            wrong = f"belongs to user id {found.st_uid}"
        elif shared:
            wrong = f"can be written by others (mode {found.st_mode & 0o7777:04o})"
        else:
            return path
        raise Refusal(
            codes.ERR_PERM,
            f"the state directory {escape(path)} {wrong}, so what lies in it cannot be trusted;"
            " make it root's own with mode 0755",
        )
