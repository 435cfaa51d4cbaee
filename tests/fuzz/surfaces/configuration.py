"""Parameters, meta attributes and everything else that comes in an agent's environment, and the
words that are typed after mailman-ha."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from unittest import mock

from hypothesis import strategies as st
from mailman_ha.agents.list_lock_janitor.declaration import DECLARATION as JANITOR
from mailman_ha.agents.mailman_master.declaration import DECLARATION as MASTER
from mailman_ha.agents.qfiles_slice import settings
from mailman_ha.agents.qfiles_slice.declaration import DECLARATION as SLICE
from mailman_ha.cli import main
from mailman_ha.ocf import dispatch, environment, values
from mailman_ha.ocf.call import Call
from mailman_ha.ocf.deadline import Deadline
from mailman_ha.ocf.log import Log
from mailman_ha.ocf.outcome import Refusal

from tests.fuzz.surface import Surface, is_harmless
from tests.fuzz.surfaces.site_yaml import SEEDS

AGENTS = {"list-lock-janitor": JANITOR, "mailman-master": MASTER, "qfiles-slice": SLICE}

VALUES = (
    "", "0", "1", "-1", "+5", "5min", "999999999999999999", "9" * 19, "999999999999999999d", "1e9",
    "٣", "²", "true", "no", "2.1", "3", "auto", "/", "/nonexistent", "../x", "in", "in/../..",
    "in:0:4",
    "\n", "\x1b[2J", "\udcff", "a=b", "a=b c=b", "a=b,c=b", "=", "x" * 5000, "%s", "nan", "inf",
    "$(reboot)", "n1", "5 min", "0x10", "1_000", "ocf-exit-reason:", "clone:3", "%d %", "\ud800",
)
NAMES = (
    *sorted({f"OCF_RESKEY_{one.name}" for agent in AGENTS.values() for one in agent.parameters}),
    *(f"OCF_RESKEY_CRM_meta_{name}" for name in (
        "timeout", "interval", "clone", "clone_max", "clone_node_max", "globally_unique",
        "on_node")),
    "OCF_CHECK_LEVEL", "OCF_RESOURCE_INSTANCE", "OCF_RA_VERSION_MAJOR", "OCF_EXIT_REASON_PREFIX",
    "HA_LOGFACILITY", "HA_LOGTAG", "HA_DATEFMT", "HA_debug",
)
_environments = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(st.sampled_from(VALUES), st.text(max_size=20), st.integers(-5, 10**19).map(str)),
    max_size=10,
)


def parameters(environ: dict[str, str]) -> None:
    """What is configured is understood or refused in a sentence, for each agent."""
    for name, agent in AGENTS.items():
        examined = agent.examine(environ)
        for fault in examined.faults:
            assert fault.sentence("r") and len(fault.sentence("r")) < 2000
            assert is_harmless(fault.sentence("\x1b[2J"))
        for parameter in agent.parameters:
            text = examined.values[parameter.name]
            assert not text or not parameter.fault(text)
            if parameter.kind == "seconds" and text:
                assert 0 <= values.parse_seconds(text) < 1e24
        call = Call(
            action="monitor", instance=environment.instance(environ, name),
            parameters=examined.values, given_names=examined.given,
            deadline=Deadline.from_environment(environ, "monitor"),
            log=Log({"HA_LOGFACILITY": "none"}),
            clone_number=environment.meta_number(environ, "clone"),
            clone_max=environment.meta_number(environ, "clone_max"),
            globally_unique=environment.is_true(
                environ.get("OCF_RESKEY_CRM_meta_globally_unique", "false")),
        )
        assert call.deadline.remaining() >= 0
        if agent is SLICE:
            try:
                wanted = settings.wanted(call)
            except Refusal as refusal:
                assert len(refusal.outcome.reason) < 2000
            else:
                assert "/" not in wanted.lock_name and wanted.lock_name.endswith(".lock")


def an_action(environ: dict[str, str]) -> None:
    """Every action that needs no Mailman ends with an OCF code and one exit reason at most, the
    last line on stderr; nothing is raised whatever the environment says."""
    environ = {
        "HA_RSCTMP": "/nonexistent", "OCF_RESKEY_bindir": "/nonexistent/bin",
        "OCF_RESKEY_config": "/nonexistent/mailman.cfg", "HA_LOGFILE": "/dev/null", **environ,
        "OCF_RESKEY_mailman_version": "3", "OCF_RESKEY_CRM_meta_interval": "10",
        "HA_LOGFACILITY": "none",
    }
    for name in AGENTS:
        module = "mailman_ha.agents." + name.replace("-", "_")
        __import__(module)
        for action in ("validate-all", "monitor", "nonsense\x1b\n"):
            code, errors = _dispatched(name, module, action, environ)
            assert code in (1, 2, 3, 5, 6, 7), f"{name} {action} ended with {code}"
            prefix = (environ.get("OCF_EXIT_REASON_PREFIX") or "ocf-exit-reason:").encode(
                "utf-8", "backslashreplace")
            reason = errors.rstrip(b"\n").rpartition(prefix)[2]
            assert (prefix in errors or code == 7) and b"defect" not in errors, errors[-2000:]
            assert reason.decode().isprintable(), reason


def _dispatched(name: str, module: str, action: str, environ: dict[str, str]) -> tuple[int, bytes]:
    """The exit code of an action and what it wrote on stderr."""
    written: list[bytes] = []

    def write(file: int, text: bytes) -> int:
        written.append(bytes(text) if file == 2 else b"")
        return len(text)

    with mock.patch.object(os, "write", write):
        deadline = Deadline.from_environment(environ, action)
        code = dispatch.dispatch(name, module, action, environ, deadline)
    return code, b"".join(written)


_WORDS_TYPED = (
    "locks", "explain", "sweep", "slices", "doctor", "render", "simulate", "--json", "--help",
    "--version", "--timeout", "5", "nan", "1e9", "--lock-dir", "/nonexistent", "--prefix",
    "--resource",
    "x", "--", "-", "", "test.lock", "../x", "\udcff", "\x1b[2J", "\n", "a" * 5000, "--format",
    "pcs",
    "crm", "cib", "--lose", "n1", "--mailman-version", "2.1", "--host-map", "a=b", "--lo", "%s",
    "{x}",
    "SITE", "/dev/null", "/etc/passwd", "/",
)


def typed_words(words: list[str]) -> None:
    """An exit status, no traceback, and nothing on the terminal that it would obey."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        site = f"{directory}/site.yaml"
        with open(site, "wb") as file:
            file.write(SEEDS[0])
        words = [site if word == "SITE" else word for word in words]
        with (
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, {"PATH": directory, "HA_RSCTMP": directory,
                                         "HA_LOGFACILITY": "none", "COLUMNS": "100"}),
        ):
            try:
                status = main.main(words)
            except SystemExit as end:
                status = int(end.code or 0)
    assert status in (0, 1, 2), status
    said, complained = out.getvalue(), err.getvalue()
    assert "Traceback" not in complained and "a defect of" not in complained, complained
    for text in (said, complained):
        assert all(line.isprintable() for line in text.split("\n")), text
    if "--json" in words and said.startswith("{"):
        assert json.loads(said)["schema"]


_typed = st.one_of(
    st.lists(st.sampled_from(_WORDS_TYPED), max_size=6),
    st.tuples(st.sampled_from(main.COMMANDS), st.lists(
        st.sampled_from(("--\x1b[2J", "\udcff", "\n", "x\x07", "", "--json")), max_size=2,
    )).map(lambda typed: [typed[0], *typed[1]]),
)

SURFACES = (
    Surface("parameters", _environments, parameters, count=300),
    Surface("actions", _environments, an_action, count=40),
    Surface("typed-words", _typed, typed_words,
            count=100),
)
