"""The throwaway agent's actions: its duty, or whatever its mood says."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from mailman_ha.ocf import codes
from mailman_ha.ocf.outcome import Outcome, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call


kept: list[int] = []


def _file(call: Call) -> str:
    return f"{call.state_dir}/example-{call.instance}"


def _in_a_mood(call: Call) -> Outcome | None:
    mood = call.text("mood")
    if mood.startswith("say:"):
        return Outcome(int(mood[4:]), f"it was told to say {mood[4:]}")
    if mood.startswith("say-nothing:"):
        return Outcome(int(mood[12:]))
    if mood == "two lines":
        return Outcome(codes.ERR_GENERIC, "the first\nand \x1b[31mthe second")
    if mood == "noisy":
        sys.stderr.write("noise of the agent\n")
        sys.stdout.write("more noise\n")
        call.log.warning("noise in the log")
        return Outcome(codes.ERR_GENERIC, "after the noise")
    if mood == "refuse":
        raise Refusal(codes.ERR_INSTALLED, "the thing is not here; install it")
    if mood == "crash":
        call.deadline.doing("counting to a million")
        raise KeyError("a\nb")
    if mood == "open":
        open(call.text("directory") + "/missing").close()
    if mood == "write":
        open("/etc/forbidden", "w").close()
    if mood == "import":
        import no_such_module.inner  # type: ignore[import-not-found]  # noqa: F401
    if mood == "exit":
        sys.exit(0)
    if mood == "number":
        return 0  # type: ignore[return-value]
    if mood == "fifo":
        call.deadline.doing(f"opening {call.text('directory')}/fifo")
        os.open(call.text("directory") + "/fifo", os.O_RDONLY)
    if mood == "sleep":
        call.deadline.doing("sleeping for an hour")
        time.sleep(3600)
    if mood == "wait":
        call.deadline.doing("waiting for the moon")
        while True:
            call.deadline.check()
            call.deadline.sleep(3600)
    if mood == "child":
        with open(call.text("directory") + "/child", "w") as file:
            child = subprocess.Popen(["/bin/sleep", "3600"], stderr=subprocess.DEVNULL)
            file.write(str(child.pid))
        call.deadline.at_expiry(child.kill)
        call.deadline.doing("waiting for a child")
        child.wait()
    if mood in ("tidy", "tidy-slowly"):
        place = call.text("directory") + "/"
        try:
            call.deadline.doing("making a mess")
            open(place + "untidy", "w").close()
            time.sleep(3600)
        finally:
            if mood == "tidy-slowly":
                open(place + "tidying", "w").close()
                time.sleep(1)
            os.unlink(place + "untidy")
    if mood == "write-and-fail":
        path = call.text("directory") + "/written"
        kept.extend(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(4))
        os.write(kept[0], b"written by the agent\n")
        call.log.error("told the log")
        return Outcome(codes.ERR_GENERIC, "told the cluster, with files open")
    if mood == "loop":
        for number in range(5000):
            _step(number)
    if mood == "tell":
        with open(call.text("directory") + "/told", "w") as file:
            file.write(f"{call!r} timeout={call.deadline.timeout}")
    return None


def _step(number: int) -> int:
    return number + 1


def start(call: Call) -> Outcome:
    """Make the file."""
    done = _in_a_mood(call)
    if done is None:
        open(_file(call), "w").close()
        done = Outcome(codes.SUCCESS, "the file is there")
    return done


def stop(call: Call) -> Outcome:
    """Remove the file."""
    done = _in_a_mood(call)
    if done is None:
        try:
            os.unlink(_file(call))
        except FileNotFoundError:
            pass
        done = Outcome(codes.SUCCESS)
    return done


def monitor(call: Call) -> Outcome:
    """Look for the file."""
    done = _in_a_mood(call)
    if done is None:
        if os.path.exists(_file(call)):
            done = Outcome(codes.SUCCESS)
        else:
            done = Outcome(codes.NOT_RUNNING, "there is no file")
    return done


def reload_agent(call: Call) -> Outcome:
    """There is nothing to take over."""
    return _in_a_mood(call) or Outcome(codes.SUCCESS)


def validate_all(call: Call) -> Outcome:
    """With level 10, look at this node too."""
    if call.text("mood") == "worried":
        call.log.warning("the label is odd; choose another")
    if call.check_level >= 10 and not os.path.isdir(call.text("directory")):
        return Outcome(codes.ERR_ARGS, f"there is no {call.text('directory')}; make it")
    return Outcome(codes.SUCCESS)
