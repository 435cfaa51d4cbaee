"""Findings on what else would start Mailman, in a directory that looks like a machine's root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mailman_ha.doctor import own_services
from mailman_ha.doctor.finding import ERROR, UNSEEN, WARNING
from mailman_ha.doctor.observation import OwnService

from .good_site import (
    GROUP,
    JANITOR,
    SHARE,
    cib,
    configured,
    facts,
    in_a_file,
    only,
    spoiled,
)


def link(root: Path, path: str, to: str = "/x") -> None:
    full = root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.symlink_to(to)


def write(root: Path, path: str, text: str) -> None:
    full = root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text(text)


def test_machine_without_anything_of_mailmans_has_no_service(tmp_path: Path) -> None:
    write(tmp_path, "etc/crontab", "17 * * * * root cd / && run-parts /etc/cron.hourly\n")
    link(tmp_path, "etc/systemd/system/multi-user.target.wants/mailman3-web.service")
    assert own_services.look(str(tmp_path)) == ((), ())


@pytest.mark.parametrize("unit", ["mailman3.service", "mailman.service", "mailman3@x.service"])
def test_enabled_unit_is_found(tmp_path: Path, unit: str) -> None:
    link(tmp_path, f"etc/systemd/system/multi-user.target.wants/{unit}")
    found, _ = own_services.look(str(tmp_path))
    assert found == (OwnService(
        "systemd", unit, f"/etc/systemd/system/multi-user.target.wants/{unit}"),)
    one = only(spoiled(services=found))
    assert (one.check, one.severity) == ("services", ERROR)
    assert one.mend.startswith(f"systemctl disable --now {unit}")
    assert "--force" in one.matters


def test_masked_unit_does_not_start(tmp_path: Path) -> None:
    link(tmp_path, "etc/systemd/system/multi-user.target.wants/mailman3.service")
    link(tmp_path, "etc/systemd/system/mailman3.service", "/dev/null")
    assert own_services.look(str(tmp_path))[0] == ()


def test_init_script_is_found_unless_a_unit_stands_for_it(tmp_path: Path) -> None:
    link(tmp_path, "etc/rc2.d/S01mailman")
    link(tmp_path, "etc/rc3.d/S01mailman")
    link(tmp_path, "etc/rc2.d/K01mailman3")
    (found,) = own_services.look(str(tmp_path))[0]
    assert found == OwnService("init", "mailman", "/etc/rc2.d/S01mailman")
    assert only(spoiled(services=(found,))).mend.startswith("update-rc.d mailman disable")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert own_services.look(str(tmp_path))[0] == (found,), "systemd makes a unit of the script"
    write(tmp_path, "lib/systemd/system/mailman.service", "[Service]\n")
    assert own_services.look(str(tmp_path))[0] == ()


@pytest.mark.parametrize("line,starts", [
    ("@reboot root /usr/local/mailman/bin/mailmanctl -s -q start", True),
    ("*/5 * * * * root pgrep qrunner || /usr/lib/mailman/bin/mailmanctl start", True),
    ("0 4 * * * list /usr/bin/mailman -C /etc/mailman3/mailman.cfg restart", True),
    ("0 4 * * * root systemctl restart mailman3.service", True),
    ("0 4 * * * root service mailman start >/dev/null 2>&1", True),
    ("# @reboot root mailmanctl start", False),
    ("0 12 * * * list /usr/lib/mailman/cron/senddigests", False),
    ("0 8 * * * list [ -x /usr/bin/mailman ] && /usr/bin/mailman notify", False),
    ("0 4 * * * root mailmanctl reopen", False),
    ("0 4 * * * root systemctl restart apache2", False),
    ("0 4 * * * root systemctl restart mailman3-web", False),
])
def test_lines_of_cron_that_start_mailman_are_known(line: str, starts: bool) -> None:
    assert own_services.starts_mailman(line) == starts


@pytest.mark.parametrize("path", [
    "etc/crontab", "etc/cron.d/mailman", "var/spool/cron/crontabs/list", "etc/cron.daily/mm",
    "var/spool/cron/list",
])
def test_cron_is_looked_through(tmp_path: Path, path: str) -> None:
    write(tmp_path, path, "# comment\n@reboot \x1b[31m mailmanctl  -s start\n")
    (found,) = own_services.look(str(tmp_path))[0]
    assert (found.kind, found.where) == ("cron", f"/{path}")
    one = only(spoiled(services=(found,)))
    assert "\x1b" not in one.seen
    assert one.mend == f"remove the line from /{path}"


def test_hostile_files_among_crons_do_not_hold_it_up(tmp_path: Path) -> None:
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/cron.d/fifo")
    (tmp_path / "etc/cron.d/directory").mkdir()
    link(tmp_path, "etc/cron.d/dangling", "/nonexistent/x")
    (tmp_path / "etc/cron.d/bytes").write_bytes(b"\xff\xfe\0" * 1000)
    assert own_services.look(str(tmp_path)) == ((), ())


def test_what_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "var/spool/cron/crontabs").mkdir(parents=True)
    really = os.listdir

    def refusing(path: str) -> list[str]:
        if str(path).endswith("crontabs"):
            raise PermissionError(13, "Permission denied")
        return really(path)

    monkeypatch.setattr(os, "listdir", refusing)
    _, unseen = own_services.look(str(tmp_path))
    assert unseen == (f"/var/spool/cron/crontabs may not be read by uid {os.geteuid()}",)
    assert only(spoiled(services_unseen=unseen)).severity == UNSEEN


def test_services_of_another_node_are_found() -> None:
    told = {"mail1": facts("mail1"), "mail2": facts("mail2", services=2)}
    one = only(spoiled(facts=told))
    assert one.seen == "2 of node mail2's own ways to start Mailman are on"


UNIT = '<primitive id="mm" class="systemd" type="{}"/>'


def test_mailmans_unit_as_a_resource_is_found() -> None:
    beside = only(in_a_file(cib(GROUP + UNIT.format("mailman3"))))
    assert (beside.check, beside.severity) == ("services", ERROR)
    assert beside.pcs.startswith("pcs resource delete mm")
    alone = cib(f'<group id="g">{SHARE}{JANITOR}{UNIT.format("mailman3")}</group>')
    assert only(in_a_file(alone)).severity == WARNING
    assert in_a_file(cib(GROUP + UNIT.format("mailman3-web"))) == ()
    assert configured(alone)
