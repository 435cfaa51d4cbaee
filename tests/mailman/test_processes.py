"""Which processes are an installation's: by the command lines of contract section 5, and no more
than those, for what is taken for Mailman's is ended by a stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.evidence.process_table import Process
from mailman_ha.mailman import processes
from mailman_ha.mailman.location import Location
from mailman_ha.mailman.processes import MASTER, RUNNER, RememberedMaster, Role
from mailman_ha.ocf.record import replace

from tests.fuzz.surface import bounded

P21 = Location("2.1", ("/usr/local/mailman/bin",), prefix="/usr/local/mailman")
DEBIAN21 = Location(
    "2.1", ("/var/lib/mailman/bin", "/usr/lib/mailman/bin"), prefix="/var/lib/mailman"
)
P3 = Location("3", ("/usr/lib/mailman3/bin",), config="/etc/mailman3/mailman.cfg")
VENV3 = Location("3", ("/opt/mailman/venv/bin",), config="/etc/mailman3/mailman.cfg")

ROLES = [
    # 2.1: the master keeps its starter's words
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/mailmanctl start", Role(MASTER)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/mailmanctl -s start", Role(MASTER)),
    (P21, "/usr/bin/python2 -S /usr/local/mailman/bin/mailmanctl -s -q start", Role(MASTER)),
    (P21, "/usr/local/mailman/bin/mailmanctl start", Role(MASTER)),
    (DEBIAN21, "/usr/bin/python /usr/lib/mailman/bin/mailmanctl -s start", Role(MASTER)),
    (DEBIAN21, "/usr/bin/python /var/lib/mailman/bin/qrunner --runner=ArchRunner:0:1 -s",
     Role(RUNNER, "ArchRunner", 0, 1)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/qrunner --runner=IncomingRunner:0:1 -s",
     Role(RUNNER, "IncomingRunner", 0, 1)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/qrunner --runner=OutgoingRunner:3:8 -s",
     Role(RUNNER, "OutgoingRunner", 3, 8)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/qrunner -r IncomingRunner:1:4 -o",
     Role(RUNNER, "IncomingRunner", 1, 4)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/qrunner --runner VirginRunner",
     Role(RUNNER, "VirginRunner", 0, 1)),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/qrunner -s", Role(RUNNER)),
    (P21, "/usr/bin/python2 -W ignore /usr/local/mailman/bin/qrunner --runner=NewsRunner:0:1",
     Role(RUNNER, "NewsRunner", 0, 1)),
    # 3
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master -C /etc/mailman3/mailman.cfg",
     Role(MASTER)),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master --force -C /etc/mailman3/mailman.cfg",
     Role(MASTER)),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master --config=/etc/mailman3/mailman.cfg",
     Role(MASTER)),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master", Role(MASTER)),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/runner -C /etc/mailman3/mailman.cfg "
         "--runner=in:0:1", Role(RUNNER, "in", 0, 1)),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/runner -C /etc/mailman3//mailman.cfg "
         "-r out:2:4", Role(RUNNER, "out", 2, 4)),
    (VENV3, "/opt/mailman/venv/bin/python /opt/mailman/venv/bin/runner -C "
            "/etc/mailman3/mailman.cfg --runner=rest:0:1", Role(RUNNER, "rest", 0, 1)),
    (VENV3, "/usr/libexec/platform-python -Es /opt/mailman/venv/bin/master", Role(MASTER)),
    # strangers
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/mailmanctl stop", None),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/mailmanctl", None),
    (P21, "/usr/bin/python2 /usr/local/mailman/bin/withlist -l test", None),
    (P21, "/usr/bin/python2 /usr/local/mailman/cron/senddigests", None),
    (P21, "/usr/bin/python2 /usr/lib/mailman/bin/qrunner --runner=IncomingRunner:0:1", None),
    (P21, "/usr/bin/python2 /usr/local/mailman2/bin/mailmanctl start", None),
    (P21, "/usr/bin/vim /usr/local/mailman/bin/qrunner", None),
    (P21, "less /usr/local/mailman/bin/mailmanctl start", None),
    (P21, "grep -r start /usr/local/mailman/bin/mailmanctl start", None),
    (P21, "sudo -u mailman /usr/local/mailman/bin/mailmanctl start", None),
    (P21, "/bin/sh -c /usr/local/mailman/bin/mailmanctl start", None),
    (P21, "/usr/bin/python2 /root/count.py /usr/local/mailman/bin/qrunner", None),
    (P21, "/usr/bin/python3 -m pdb /usr/local/mailman/bin/qrunner", None),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master -C /etc/mailman3/other.cfg", None),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/runner --config /srv/x.cfg --runner=in:0:1",
     None),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/master -C", None),
    (P3, "/usr/bin/python3 /usr/lib/mailman3/bin/mailman start", None),
    (P3, "/usr/bin/python3 /opt/mailman/venv/bin/master", None),
    (P3, "/usr/lib/postfix/sbin/master -w", None),
    (P3, "tail -f /usr/lib/mailman3/bin/master", None),
    (P3, "gitlab-runner run", None),
    (P3, "", None),
]


@pytest.mark.parametrize("location, line, role", ROLES, ids=[line for _, line, _ in ROLES])
def test_role_is_told_from_the_command_line(
    location: Location, line: str, role: Role | None
) -> None:
    assert processes.classify(line.split(), location) == role


TITLES = [
    ("mailman: master", Role(MASTER)),
    ("mailman: runner [in]", Role(RUNNER, "in")),
    ("mailman: runner [out:1:4]", Role(RUNNER, "out", 1, 4)),
    ("gunicorn: master [mailman: runner [rest]]", Role(RUNNER, "rest")),
    ("gunicorn: worker [mailman: runner [rest]]", Role(RUNNER, "rest")),
    ("mailman: runner [in]   ", Role(RUNNER, "in")),
    ("mailman: master of all", None),
    ("vim mailman: runner [in]", None),
    ("xmailman: master", None),
    ("gunicorn: master [hyperkitty]", None),
    ("", None),
]


@pytest.mark.parametrize("title, role", TITLES)
def test_role_is_told_from_a_title(title: str, role: Role | None) -> None:
    assert processes.classify_title([title]) == role
    assert processes.classify_title(title.split()) == role


@pytest.mark.parametrize("numbers", ["²:1", "0:٣", "x:1", "0", "0:", ":1", "-1:2", "1e3:2",
                                     "9" * 5000 + ":1"])
def test_runner_with_odd_numbers_is_still_a_runner(numbers: str) -> None:
    words = ["python3", "/usr/lib/mailman3/bin/runner", f"--runner=in:{numbers}"]
    role = processes.classify(words, P3)
    assert role is not None and (role.kind, role.runner) == (RUNNER, "in")


@given(st.lists(st.one_of(
    st.text(max_size=20),
    st.sampled_from(("python3", "/usr/lib/mailman3/bin/master", "/usr/lib/mailman3/bin/runner",
                     "-C", "--config=", "--runner=", "-r", "in:²:²", "mailman: runner [",
                     "/usr/local/mailman/bin/qrunner", "\udcff\n", "")),
), max_size=7))
def test_no_command_line_raises(words: list[str]) -> None:
    for location in (P21, P3):
        role = processes.classify(words, location)
        assert role is None or role.kind in (MASTER, RUNNER)
    processes.classify_title(words)
    assert processes.looks_like_mailman(words, P3) in (True, False)


# -- a whole table

MAILMAN, ROOT, OTHER = 38, 0, 1000


def process(
    pid: int, line: str, uid: int = MAILMAN, *, cwd: str = "/", parent: int = 1, state: str = "S",
    session: int = 0, ticks: int = 100,
) -> Process:
    stat = ProcessStat(pid, state, parent, session or pid, session or pid, ticks)
    return Process(stat, tuple(line.split()), uid, cwd)


CFG = "-C /etc/mailman3/mailman.cfg"
MASTER_3 = f"python3 /usr/lib/mailman3/bin/master {CFG}"
RUNNER_3 = f"python3 /usr/lib/mailman3/bin/runner {CFG} --runner="


def pids(found: processes.MailmanProcesses) -> tuple[list[int], list[int]]:
    return [one.pid for one in found.masters], [one.pid for one in found.runners]


def test_masters_and_runners_of_mailmans_user_and_root_are_selected() -> None:
    table = [
        process(10, MASTER_3), process(11, RUNNER_3 + "in:0:1"), process(12, MASTER_3, ROOT),
        process(13, RUNNER_3 + "out:0:1", OTHER), process(14, MASTER_3, OTHER),
        process(15, "sleep 60"), process(16, RUNNER_3 + "in:0:1", state="Z"),
        process(17, RUNNER_3 + "in:1:2", state="T"), process(18, MASTER_3, state="X"),
    ]
    assert pids(processes.select(table, [P3], MAILMAN)) == ([10, 12], [11, 17])
    assert pids(processes.select(table, [P3], None)) == ([10, 12, 14], [11, 13, 17])
    assert not processes.select(table, [P21], MAILMAN)
    assert not processes.select([], [P3])


def test_titles_count_only_in_mailmans_own_directory() -> None:
    table = [
        process(10, "mailman: master", cwd="/var/lib/mailman3"),
        process(11, "mailman: runner [in]", cwd="/var/lib/mailman3"),
        process(12, "mailman: master", cwd="/srv/other"),
        process(13, "mailman: runner [in]", OTHER, cwd="/var/lib/mailman3"),
    ]
    assert pids(processes.select(table, [P3], MAILMAN, "/var/lib/mailman3")) == ([10], [11])
    assert not processes.select(table, [P3], MAILMAN, "")


def test_processes_are_known_by_where_they_work_also_behind_a_link() -> None:
    """The kernel names a working directory without links."""
    table = [
        process(10, "mailman: master", cwd="/srv/share/v"),
        process(11, "python2 bin/mailmanctl start", cwd="/srv/share/v"),
        process(12, "mailman: master", cwd="/srv/other"),
        process(13, "python2 bin/mailmanctl start", cwd="/srv/other"),
    ]
    for place, pid in ((P3, 10), (P21, 11)):
        linked = replace(place, working_dir="/srv/share/v")
        found = processes.select(table, [linked], MAILMAN, "/var/lib/link")
        assert pid in pids(found)[0] and not {12, 13} & set(pids(found)[0])
        found = processes.select(table, [place], MAILMAN, "/srv/share/v")
        assert pid in pids(found)[0] and not {12, 13} & set(pids(found)[0])


def test_workers_of_the_rest_runner_come_last_and_are_no_second_runner() -> None:
    table = [
        process(31, RUNNER_3 + "rest:0:1", parent=30), process(30, RUNNER_3 + "rest:0:1"),
        process(32, RUNNER_3 + "rest:0:1", parent=30), process(33, RUNNER_3 + "in:0:1"),
    ]
    found = processes.select(table, [P3], MAILMAN)
    assert [one.pid for one in found.runners] == [30, 33, 31, 32]
    workers = [one.pid in processes.workers(found.runners) for one in found.runners]
    assert workers == [False, False, True, True]


def test_two_runners_of_one_slice_are_two(
) -> None:
    table = [process(30, RUNNER_3 + "in:0:1"), process(31, RUNNER_3 + "in:0:1")]
    found = processes.select(table, [P3], MAILMAN)
    assert not processes.workers(found.runners)


def test_session_of_the_remembered_master_is_its_own_and_no_later_ones() -> None:
    known = RememberedMaster(50, 1000, MAILMAN)
    table = [
        process(51, "python2 /old/prefix/bin/qrunner --runner=ArchRunner:0:1", session=50,
                ticks=1001),
        process(52, "sleep 60", session=50, ticks=1002),
        process(53, "python2 /old/prefix/bin/qrunner --runner=ArchRunner:0:1", session=99),
        process(54, "python2 /old/prefix/bin/qrunner", OTHER, session=50, ticks=1003),
        process(55, "python2 /old/prefix/bin/qrunner", session=50, ticks=999),
        process(56, "/usr/lib/mailman3/bin/runner", session=50, ticks=1004, state="Z"),
    ]
    assert pids(processes.select(table, [P3], MAILMAN, remembered=known)) == ([], [51])
    master = process(50, "python2 /old/prefix/bin/mailmanctl start", ticks=1000)
    reused = process(50, "python2 /old/prefix/bin/mailmanctl start", ticks=2000)
    assert pids(processes.select([master], [P3], MAILMAN, remembered=known)) == ([50], [])
    assert pids(processes.select([reused], [P3], MAILMAN, remembered=known)) == ([], [])


@pytest.mark.parametrize("line, looks", [
    ("/usr/bin/python2 /usr/local/mailman/bin/qrunner --runner=ArchRunner:0:1", True),
    ("/usr/lib/cgi-bin/mailman/admin", True),
    ("/var/lib/mailman/mail/mailman post test", True),
    ("python3 /usr/bin/Mailman-something", True),
    ("mailman: runner [in]", True),
    ("/usr/bin/python3 /usr/lib/mailman3/bin/anything", True),
    ("/usr/sbin/apache2 -k start", False),
    ("sleep 60", False),
    ("", False),
])
def test_what_may_be_mailmans_is_told_generously(line: str, looks: bool) -> None:
    assert processes.looks_like_mailman(line.split(), P3) == looks


def test_whatever_has_a_role_looks_like_mailman() -> None:
    for location, line, role in ROLES:
        if role is not None:
            assert processes.looks_like_mailman(line.split(), location)


@pytest.mark.parametrize("arguments, daemon", [
    (("/usr/bin/python3", "/opt/mm/bin/master", "-C", "/etc/mailman.cfg"), True),
    (("/usr/bin/python2.7", "-S", "/srv/mailman/bin/qrunner", "--runner=IncomingRunner:0:1"), True),
    (("python", "bin/mailmanctl", "start"), True),
    (("mailman: runner [in]",), True),
    (("/usr/lib/mailman3/bin/runner", "-C", "/etc/mailman.cfg"), True),
    (("/usr/bin/python3", "-IS", "/usr/lib/ocf/resource.d/mailman/qfiles-slice", "monitor"), False),
    (("vi", "/srv/mailman/bin/qrunner"), False),
    (("/usr/bin/python3", "/usr/bin/mailman", "start"), False),
    ((), False),
])
def test_daemon_of_any_mailman_is_known_by_its_name(
    arguments: tuple[str, ...], daemon: bool
) -> None:
    assert processes.may_be_daemon(arguments) is daemon


def test_table_of_thousands_of_runners_is_sorted_at_once() -> None:
    """Mailman's user may start as many as the kernel lets him."""
    words = ("/usr/bin/python2", "/usr/local/mailman/bin/qrunner", "--runner=IncomingRunner:0:1")
    table = [
        Process(ProcessStat(pid, "S", pid // 2, 1, 1, 5), words, 0, "/") for pid in range(2, 8000)
    ]
    with bounded():
        found = processes.select(table, (P21,))
        assert len(found.runners) == len(table)
        assert len(processes.workers(found.runners)) == len(table) - 2
