"""Small files in the state directory: lines of ``name=value``, written whole or not at all.

On the light monitor's path, where reading JSON would cost as much as starting Python, and `os` a
tenth of that (facts, section 8). The state directory is root's, and a reboot empties it.
"""

import posix
import sys

from mailman_ha.ocf import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: A state file is a few hundred bytes; more is not read.
_LIMIT = 16384
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

#: The greatest uid and gid; one more means "leave it as it is" to setuid(2) and its like.
GREATEST_ID = (1 << 32) - 2


def path(state_dir: str, agent_name: str, instance: str, kind: str = "state") -> str:
    """Where `agent_name` keeps its file of this `kind` for the resource `instance`."""
    return f"{state_dir}/{agent_name}-{instance.replace('/', '_')}.{kind}"


def of_instance(environ: "Mapping[str, str]", agent_name: str) -> "dict[str, str] | None":
    """What `agent_name` keeps of the resource that the environment is about; None as `read`."""
    return read(
        path(
            environment.state_directory(environ), agent_name,
            environment.instance(environ, agent_name),
        )
    )


def read(file_path: str) -> "dict[str, str] | None":
    """The values in the file; None where there is no file, or one that holds zeros: a crash may
    leave those, and no name or number has any."""
    try:
        with open(file_path, "rb") as file:
            content = file.read(_LIMIT)
    except OSError:
        return None
    if b"\0" in content:
        return None
    found = {}
    for line in content.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode("ascii", "replace")] = value.decode(_ENCODING, _ERRORS)
    return found


def number(text: str, greatest: int = (1 << 64) - 1) -> int:
    """The number in a value, written in decimal digits. Raises ValueError for what the system has
    no such number for: a file cut short or scribbled on must not end as an OverflowError later."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) > greatest:
        raise ValueError(f"no number from 0 to {greatest}")
    return int(text)


def write(file_path: str, values: "Mapping[str, object]") -> None:
    """Write `values` in one step. With a newline in one of them nothing could be read back, so
    then the file is removed instead."""
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    if text.count("\n") != len(values):
        forget(file_path)
        return
    partial = f"{file_path}.{posix.getpid()}"
    with open(partial, "wb") as file:
        file.write(text.encode(_ENCODING, _ERRORS))
    posix.replace(partial, file_path)


def forget(file_path: str) -> None:
    """Remove the file."""
    try:
        posix.unlink(file_path)
    except FileNotFoundError:
        pass
