"""What an earlier version left in the state directory means the same to this one.

After an upgrade under a running cluster the next monitor is the new version's. Without a state
that it can read a janitor is not running and a slice's runner is somebody else's, so both are
stopped and started, and in a group what depends on them as well; a master is looked for on the
whole host. So a field may be added with a default for where it is missing, but none renamed or
removed.

The texts are what those versions wrote; a version that writes another form adds its own.
"""

from __future__ import annotations

from pathlib import Path

from mailman_ha.agents.list_lock_janitor import state_file as janitor
from mailman_ha.agents.mailman_master import state_file as master
from mailman_ha.agents.qfiles_slice import state_file as slices

MASTER_0_1_0 = b"""pid=4242
started_ticks=1234567
uid=38
gid=39
claim=/srv/mailman/locks/master-qrunner.n1.4242
claim_inode=131073
lock_dir=/srv/mailman/locks
"""

JANITOR_0_1_0 = b"""lock_dir=/srv/mailman/locks
format=2.1
master_lock=master-qrunner
uid=38
gid=39
own_hosts=n1 n1.example.org
"""

SLICE_0_1_0 = b"""pid=4243
started_ticks=1234568
uid=38
gid=39
claim=/srv/mailman/locks/qfiles:in:1:4.lock.n1.4243
claim_inode=131074
lock_dir=/srv/mailman/locks
queue=in
runner=IncomingRunner
slice=1
slices=4
"""


def written(directory: Path, text: bytes) -> str:
    """The path of a file with this text."""
    file = directory / "state"
    file.write_bytes(text)
    return str(file)


def test_masters_state_of_0_1_0_is_understood(tmp_path: Path) -> None:
    assert master.read(written(tmp_path, MASTER_0_1_0)) == master.MasterState(
        pid=4242, started_ticks=1234567, uid=38, gid=39,
        claim="/srv/mailman/locks/master-qrunner.n1.4242", claim_inode=131073,
        lock_dir="/srv/mailman/locks",
    )


def test_janitors_state_of_0_1_0_is_understood(tmp_path: Path) -> None:
    assert janitor.read(written(tmp_path, JANITOR_0_1_0)) == janitor.Duty(
        lock_dir="/srv/mailman/locks", format="2.1", master_lock="master-qrunner", uid=38, gid=39,
        own_hosts=("n1", "n1.example.org"),
    )


def test_slices_state_of_0_1_0_is_understood(tmp_path: Path) -> None:
    assert slices.read(written(tmp_path, SLICE_0_1_0)) == slices.SliceState(
        pid=4243, started_ticks=1234568, uid=38, gid=39,
        claim="/srv/mailman/locks/qfiles:in:1:4.lock.n1.4243", claim_inode=131074,
        lock_dir="/srv/mailman/locks", queue="in", runner="IncomingRunner", slice=1, slices=4,
    )


def test_state_of_a_later_version_is_understood_as_far_as_it_is_known(tmp_path: Path) -> None:
    """As after a downgrade."""
    for module, text in ((master, MASTER_0_1_0), (janitor, JANITOR_0_1_0), (slices, SLICE_0_1_0)):
        known = module.read(written(tmp_path, text))
        assert known is not None
        assert module.read(written(tmp_path, text + b"of_later=1\n")) == known


def test_state_in_these_texts_is_what_is_written(tmp_path: Path) -> None:
    for module, text in ((master, MASTER_0_1_0), (janitor, JANITOR_0_1_0), (slices, SLICE_0_1_0)):
        known = module.read(written(tmp_path, text))
        module.write(str(tmp_path / "again"), known)  # type: ignore[arg-type]
        assert (tmp_path / "again").read_bytes() == text
