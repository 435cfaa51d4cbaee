"""The throwaway agent's quick monitor: is the file there?"""

import posix

from mailman_ha.ocf.environment import instance, parameter, state_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailman_ha.ocf.deadline import Deadline


def quick_monitor(environ: "Mapping[str, str]", deadline: "Deadline") -> bool:
    """Whether the file is there."""
    mood = parameter(environ, "mood")
    if mood == "quick-raises":
        raise RuntimeError("the quick look went wrong")
    if mood == "quick-fails":
        return False
    deadline.doing("taking a quick look")
    deadline.watch()
    if mood == "quick-hangs":
        posix.open(parameter(environ, "directory") or "", posix.O_RDONLY)
    try:
        posix.stat(f"{state_directory(environ)}/example-{instance(environ, 'example')}")
    except OSError:
        return False
    return True
