"""A site's description in YAML, up to the commands and the CIB that are rendered from it."""

from __future__ import annotations

import shlex
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import strategies as st
from mailman_ha.topology import description, pcs_commands, rendering
from mailman_ha.topology.document import GREATEST_SIZE, NotSound

from tests.fuzz.surface import Surface, as_bytes, mutated

_EXAMPLES = Path(__file__).resolve().parents[3] / "crm-examples"
SEEDS = tuple(path.read_bytes() for path in sorted(_EXAMPLES.glob("*.yaml")))
WORDS = (
    b"&a", b"*a", b"<<: *a", b"!!python/object/apply:os.system", b"!!binary", b"!<tag:x>",
    b"%YAML 1.1",
    b"%TAG ! tag:x,2000:", b"---", b"...", b"? ", b"- ", b": ", b"{", b"}", b"[", b"]", b"|2",
    b">-",
    b'"\\UFFFFFFFF"', b'"\\ud800"', b"'", b'"', b"#", b"~", b"null", b"1e999", b"9" * 30, b"2.1",
    b"no", b"\t", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\0", b"\x1b[2J",
    b"; reboot", b"$(reboot)", b"`reboot`", b"--", b"-->", b"\\\n", b"nodes:", b"fencing:",
    b"slices:",
    b"title:", b"address:", b"share:", b"mailman:", b"timeouts:", b"parameters:", b"prefer:",
)

#: No list of mistakes is longer than a person reads (the last one may say that there are more).
MOST_MISTAKES = 200


def a_site(content: bytes) -> None:
    """Mistakes with their lines, or a site whose three renderings can be read back: every command
    of the script is pcs's, and the CIB is XML."""
    try:
        site = description.loads(content, "site.yaml")
    except NotSound as error:
        assert error.mistakes and len(error.mistakes) <= MOST_MISTAKES
        for mistake in error.mistakes:
            text = str(mistake)
            assert text.isprintable() and len(text) < 3000
            assert 1 <= mistake.line <= len(content) + 1
        return
    texts = {name: rendering.render(site, name, "site.yaml") for name in rendering.FORMATS}
    for text in texts.values():
        assert all(line.isprintable() for line in text.split("\n"))
    head, begin, rest = texts["pcs"].partition(f"\n{pcs_commands.BEGIN}")
    assert begin and rest.endswith(f"\n{pcs_commands.END}")
    for command in _commands(f"{head}\n{rest[:-len(pcs_commands.END)]}"):
        assert command[:3] == ["pcs", "-f", "$NEW"], command
    ElementTree.fromstring(texts["cib"])


def _commands(script: str) -> list[list[str]]:
    """The commands of a shell script without any operator but the end of a line."""
    joined = script.replace("\\\n", "")
    found = []
    for line in joined.split("\n"):
        reader = shlex.shlex(line, posix=True, punctuation_chars=True)
        reader.whitespace_split = True
        words = list(reader)
        if words:
            assert not any(set(word) <= set("();<>|&") for word in words), words
            found.append(words)
    return found


def _long(*parts: bytes) -> list[bytes]:
    """Each of `parts`, of two halves, as often as a file may be long."""
    return [
        b"nodes: [" + b",".join(b"n%d" % number for number in range(9000)) + b"]",
        b"nodes: [" + b"a," * 30_000 + b"]",
        b"nodes:\n" + b"".join(b" n%d:\n" % number for number in range(7000)),
        *((part * (GREATEST_SIZE // len(part))) for part in parts),
    ]


_LONG = (
    *_long(b"[", b"{", b"- ", b"? ", b"a: ", b"!a ", b"&a ", b"'", b"{a: ", b"[a, ", b"a\n",
           b"x%d: 1\n",
           b"? - ", b"# \n", b"\n", b"\t", b"%TAG ! a\n", b"%YAML 9", b"--- \n", b"*a ",
           b"|\n a\n"),
    b"".join(b"k%d: 1\n" % number for number in range(6000)),
    b"nodes: [a, b]\nfencing:\n" + b"".join(b" f%d: {agent: a}\n" % n for n in range(2500)),
    b"nodes: [a, b]\nslices:\n" + b"".join(b" q%d: 4\n" % n for n in range(5000)),
    b"nodes: [a, b]\nmailman: {version: 3}\nshare: none\naddress: none\nslices:\n in: {slices: 4, "
    b"prefer: [" + b"zz," * 18_000 + b"]}\n",
    b"nodes: [" + b",".join(b"n%d" % n for n in range(4000)) + b"]\nmailman: {version: 3}\n"
    b"share: none\naddress: none\nslices:\n in: {slices: 4, prefer: ["
    + b",".join(b"m%d" % n for n in range(4000)) + b"]}\n",
    b"nodes: [" + b",".join(b"n%d" % n for n in range(4000)) + b"]\nfencing:\n"
    b" f: {agent: a, delay: {"
    + b",".join(b"m%d: 5" % n for n in range(3000)) + b"}}\n",
    b"%YAML " + b"9" * 60_000 + b".1\n--- a",
    b'a: "' + b"\\x41" * 15_000 + b'"',
)

SURFACES = (
    Surface("site-yaml", mutated(*SEEDS, words=WORDS), a_site,
            decode=as_bytes, seeds=SEEDS, words=WORDS, count=120, bound=2.0),
    Surface("long-site-yaml", st.sampled_from(_LONG), a_site, count=len(_LONG), bound=3.0),
)
