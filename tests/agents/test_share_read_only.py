"""A share that has become read-only is no place to serve from: monitors say so, starts refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent

# In a mount namespace of its own: a held lock on a tmpfs, looked at before and after the remount.
PROGRAM = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from mailman_ha.agents import site
from mailman_ha.evidence import last_seen
top = sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top], check=True)
locks = top + "/locks"
os.mkdir(locks)
claim, lock = locks + "/master.lck|n1|5|6", locks + "/master.lck"
with open(claim, "w") as file:
    file.write(claim)
os.link(claim, lock)
inode = os.stat(claim).st_ino
installation = SimpleNamespace(answer=SimpleNamespace(var_dir=top), lock_dir=locks)
for options in ("rw", "ro"):
    subprocess.run(["mount", "-o", "remount," + options, top], check=True)
    print(options, last_seen.still_holds(claim, inode))
    print(site.share_unusable(installation))
    print(site.share_missing(installation))
"""


@pytest.fixture
def printed(tmp_path: Path) -> list[str]:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", PROGRAM, str(CHECKOUT / "lib"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_claim_on_a_read_only_share_is_not_enough_for_the_light_monitor(
    printed: list[str],
) -> None:
    assert printed[0] == "rw True"
    assert printed[3] == "ro False"


def test_read_only_share_is_unusable_and_the_reason_says_what_to_do(printed: list[str]) -> None:
    assert printed[1] == ""
    assert "read-only" in printed[4] and "dmesg" in printed[4]


def test_read_only_share_is_not_missing_so_that_an_operator_can_look(printed: list[str]) -> None:
    assert printed[2] == printed[5] == ""


def test_ext4_that_has_aborted_is_read_only_whatever_its_flags_say(tmp_path: Path) -> None:
    """The kernel refuses every file from then on; the mount table goes on to say rw."""
    program = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from mailman_ha.agents import site
image, top = sys.argv[2] + "/disk", sys.argv[2] + "/top"
os.mkdir(top)
with open(image, "wb") as file:
    file.truncate(16 << 20)
subprocess.run(["mkfs.ext4", "-q", image], check=True)
subprocess.run(["mount", "-o", "loop", image, top], check=True)
installation = SimpleNamespace(answer=SimpleNamespace(var_dir=top), lock_dir=top)
print(repr(site.share_unusable(installation)), os.listdir(top))
subprocess.run(["mount", "-o", "remount,abort", top], check=True)
print(site.share_unusable(installation))
subprocess.run(["umount", top], check=True)
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", program, str(CHECKOUT / "lib"), str(tmp_path)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60,
    )
    before, after = done.stdout.splitlines()
    assert before == "'' ['lost+found']"
    assert "read-only" in after and "mount it afresh" in after
