"""Findings on the share: on real mounts in a namespace, and on recorded lines of mountinfo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mailman_ha.doctor import observe, share
from mailman_ha.doctor.finding import ERROR, NOTE, UNSEEN, WARNING, Finding
from mailman_ha.doctor.observation import Observation, Place
from mailman_ha.evidence import mounts
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.mounts import Mount
from mailman_ha.mailman.installation import Installation
from mailman_ha.ocf.record import replace

from tests.locks.mount_namespace import in_mount_namespace, mount

from .good_site import (
    ANSWER,
    GOOD,
    GROUP,
    MOUNTINFO,
    NFS_LINE,
    ROOT_LINE,
    SITE,
    cib,
    configured,
    in_a_file,
    only,
    places,
    spoiled,
    texts,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def with_line(line: str, **changes: object) -> tuple[Finding, ...]:
    """The findings where the share's line of mountinfo is `line`."""
    text = MOUNTINFO.replace(NFS_LINE, line)
    return spoiled(places=places(text), mounts=mounts.parse(text), **changes)


# -- NFS, by recorded lines


def test_options_of_a_good_nfs_mount_have_no_finding() -> None:
    assert with_line(NFS_LINE) == ()
    assert with_line(NFS_LINE.replace("lookupcache=none", "noac")) == ()


@pytest.mark.parametrize("word", ["soft", "softerr"])
def test_soft_mount_is_an_error(word: str) -> None:
    one = only(with_line(NFS_LINE.replace(",hard,", f",{word},")))
    assert one.severity == ERROR
    assert f"with the option {word}" in one.seen
    assert "link()" in one.matters
    assert one.pcs == "pcs resource update share options=hard,lookupcache=none"
    assert one.crm == "crm resource param share set options hard,lookupcache=none"


@pytest.mark.parametrize("instead", ["", "lookupcache=pos,"])
def test_cached_names_are_a_warning(instead: str) -> None:
    one = only(with_line(NFS_LINE.replace("lookupcache=none,", instead)))
    assert one.severity == WARNING
    assert "45 s" in one.matters


def test_options_that_must_change_are_said_for_fstab_where_no_resource_mounts() -> None:
    alone = configured(cib(GROUP.replace('value="/var/lib/mailman3"', 'value="/srv/web"')))
    found = with_line(NFS_LINE.replace("lookupcache=none,", ""), configuration=alone)
    assert [one.mend for one in found if one.severity == WARNING] == [
        "in /etc/fstab: options hard,lookupcache=none; then mount it anew, Mailman stopped"]


@pytest.mark.parametrize("options,severities", [
    ("soft", [ERROR, WARNING]), ("noac", []), ("hard", [WARNING]), ("", [WARNING]),
])
def test_options_in_the_configuration_are_judged_where_it_is_not_mounted(
    options: str, severities: list[str]
) -> None:
    text = cib(GROUP.replace('value="hard,lookupcache=none"', f'value="{options}"'))
    assert [one.severity for one in in_a_file(text)] == severities
    kept = in_a_file(text.replace('value="soft"', 'value="soft,vers=4.2"'))
    assert all("vers=4.2" in one.pcs for one in kept if options == "soft")


def test_read_only_mount_is_an_error() -> None:
    found = with_line(NFS_LINE.replace(" rw,relatime ", " ro,relatime "))
    assert {one.severity for one in found} == {ERROR}
    assert "read-only" in found[0].seen


def test_share_that_is_not_mounted_here_is_not_judged() -> None:
    text = f"{ROOT_LINE}\n"
    one = only(spoiled(
        places=places(text), mounts=mounts.parse(text), skew=None, facts=GOOD.facts))
    assert one.severity == UNSEEN
    assert one.mend.endswith("crm_resource --locate -r share")


def test_share_that_the_cluster_does_not_mount_is_a_note() -> None:
    alone = configured(cib(GROUP.replace('value="/var/lib/mailman3"', 'value="/srv/web"')))
    one = only(spoiled(configuration=alone))
    assert one.severity == NOTE
    assert "not by the cluster" in one.seen


def test_disk_that_no_resource_mounts_is_an_error() -> None:
    line = ("130 27 8:17 / /var/lib/mailman3 rw,relatime shared:71 - ext4 /dev/sdb1 rw")
    assert with_line(line) == ()
    alone = configured(cib(GROUP.replace('value="/var/lib/mailman3"', 'value="/srv/web"')))
    one = only(with_line(line, configuration=alone))
    assert one.severity == ERROR
    assert "device=/dev/sdb1 directory=/var/lib/mailman3 fstype=ext4" in one.pcs


# -- the table of mounts


def test_last_mount_on_a_point_hides_the_others() -> None:
    table = mounts.parse(MOUNTINFO + "140 120 0:60 / /var/lib/mailman3 rw - tmpfs none rw\n")
    found = mounts.of_path("/var/lib/mailman3/locks", table)
    assert found is not None
    assert found.kind == "tmpfs"


def test_names_that_only_begin_alike_lie_elsewhere() -> None:
    found = mounts.of_path("/var/lib/mailman3-web/x", mounts.parse(MOUNTINFO))
    assert found is not None
    assert found.point == "/"
    assert mounts.of_path("/x", ()) is None


def test_hostile_lines_of_mountinfo_are_read_as_text() -> None:
    table = mounts.parse(
        "nonsense\n1 2 - \n50 27 0:9 / /a\\040b\\012c rw - nfs4 ho\\134st:/x rw,soft\n"
        "\x1b[31m - \n")
    assert table == (Mount("/a b\nc", "nfs4", "ho\\st:/x", frozenset({"rw", "soft"}), "0:9"),)


def test_hostile_names_are_escaped_in_findings() -> None:
    evil = "/var/lib/mail\x1b[31mman\n3"
    table = mounts.parse(f"{ROOT_LINE}\n50 27 0:9 / {evil.replace(chr(10), chr(92) + '012')} "
                         "rw - tmpfs x rw\n")
    place = Place("the lock directory", f"{evil}/locks", f"{evil}/locks", 9, table[1])
    found = tuple(share.findings(Observation(places=(place,), mounts=table)))
    assert found
    for one in found:
        assert "\x1b" not in one.seen + one.mend + one.matters
        assert "\n" not in one.seen + one.mend + one.matters
        assert "\\x1b" in one.seen


# -- real mounts


def site_under(top: Path, locks: str = "locks") -> Installation:
    answer = replace(
        ANSWER, lock_dir=str(top / locks), queue_dir=str(top / "queue"),
        lists_dir=str(top / "lists"), var_dir=str(top), master_lock=str(top / locks / "master.lck"),
    )
    return replace(SITE, answer=answer, lock_dir=answer.lock_dir)


def judge(site: Installation, shared: str) -> list[tuple[str, str, str]]:
    """The findings on a real directory, where a Filesystem resource mounts `shared`."""
    table = mounts.read()
    text = cib(GROUP.replace('value="/var/lib/mailman3"', f'value="{shared}"').replace(
        "nfs4", "ext4"))
    seen = Observation(
        configuration=configured(text), site=site, mounts=table,
        places=observe._places(site, table),
    )
    return texts(tuple(share.findings(seen)))


def made(top: Path) -> Path:
    for name in ("locks", "queue", "lists"):
        (top / name).mkdir(parents=True, exist_ok=True)
    return top


def disk(tmp_path: Path, name: str = "disk") -> Path:
    """A real ext4 file system in a file."""
    image = tmp_path / f"{name}.img"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    assert os.system(f"mkfs.ext4 -q -F {image}") == 0
    return image


def on_a_disk(tmp_path: Path, where: Path, look: Callable[[], None]) -> None:
    """Have a `look` with a disk of Mailman's directories mounted at `where`, and only then."""
    where.mkdir(exist_ok=True)
    image = disk(tmp_path)

    def mounted() -> None:
        mount("-o", "loop", str(image), str(where))
        made(where)
        look()

    in_mount_namespace(mounted)


@needs_root
def test_disk_that_the_cluster_mounts_has_no_finding(tmp_path: Path) -> None:
    top = tmp_path / "var"

    def look() -> None:
        assert judge(site_under(top), str(top)) == []

    on_a_disk(tmp_path, top, look)


@needs_root
def test_lock_directory_in_memory_is_an_error(tmp_path: Path) -> None:
    top = tmp_path / "var"

    def look() -> None:
        mount("-t", "tmpfs", "none", str(top / "locks"))
        kind, apart = judge(site_under(top), str(top))
        assert kind == ("share", ERROR,
                        f"the lock directory {top}/locks lies on this node's own tmpfs")
        assert apart[1] == ERROR
        assert "lies on another file system than the queue directory" in apart[2]

    on_a_disk(tmp_path, top, look)


@needs_root
def test_lock_directory_that_is_a_link_off_the_share_is_an_error(tmp_path: Path) -> None:
    """As where somebody moved the locks to /run."""
    top = tmp_path / "var"
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()

    def look() -> None:
        mount("-t", "tmpfs", "none", str(elsewhere))
        (top / "locks").rmdir()
        (top / "locks").symlink_to(elsewhere)
        found = judge(site_under(top), str(top))
        assert ("share", ERROR,
                f"the lock directory {top}/locks lies on this node's own tmpfs") in found

    on_a_disk(tmp_path, top, look)


@needs_root
def test_data_on_the_root_file_system_is_an_error(tmp_path: Path) -> None:
    top = made(tmp_path / "var")
    one = judge(site_under(top), "/srv/web")
    assert len(one) == 1
    assert one[0][1] == ERROR
    assert "root file system" in one[0][2]


@needs_root
def test_bind_of_the_root_file_system_is_an_error_though_the_cluster_mounts_it(
    tmp_path: Path
) -> None:
    top = made(tmp_path / "var")
    source = made(tmp_path / "source")

    def look() -> None:
        mount("--bind", str(source), str(top))
        (found,) = judge(site_under(top), str(top))
        assert "root file system" in found[2]

    in_mount_namespace(look)


@needs_root
def test_locks_and_data_bound_from_one_share_are_on_one_share(tmp_path: Path) -> None:
    top, shared = made(tmp_path / "var"), tmp_path / "share"

    def look() -> None:
        mount("--bind", str(shared / "locks"), str(top / "locks"))
        mount("--bind", str(shared / "queue"), str(top / "queue"))
        table = mounts.read()
        found = observe._places(site_under(top), table)
        assert [one.what for one in found][:2] == ["the lock directory", "the queue directory"]
        assert not share._apart(found[0], found[1])
        assert share._apart(found[0], found[2])

    on_a_disk(tmp_path, shared, look)


@needs_root
def test_locks_that_are_mounted_apart_from_the_data_are_a_note(tmp_path: Path) -> None:
    """One file system, but nothing can be renamed or linked between its two mounts."""
    top = tmp_path / "var"

    def look() -> None:
        mount("--bind", str(top / "queue"), str(top / "queue"))
        ((_, severity, said),) = judge(site_under(top), str(top))
        assert severity == NOTE
        assert said == (
            f"the lock directory {top}/locks is mounted apart from the queue directory "
            f"{top}/queue, though on one file system"
        )

    on_a_disk(tmp_path, top, look)


def test_directory_that_is_not_there_could_not_be_looked_at(tmp_path: Path) -> None:
    top = tmp_path / "var"
    (top / "queue").mkdir(parents=True)
    table = mounts.read()
    found = observe._places(site_under(top), table)
    assert [(one.what, one.trouble) for one in found] == [
        ("the lock directory", "No such file or directory"), ("the queue directory", ""),
        ("Mailman's var directory", ""),
    ]


def test_clock_of_a_server_that_is_slow_is_not_believed() -> None:
    one = only(spoiled(skew=ClockSkew(0.0, 3600.0)))
    assert (one.check, one.severity) == ("clocks", UNSEEN)
