"""Play a script of pcs commands into a file, through pcs' own program, loaded once.

    /usr/bin/python3 -Es pcs_in_one_process.py SCRIPT CIBFILE

pcs takes most of its time to load its modules; here each command is a fork of a process that has
them. What the commands are is found by running SCRIPT with a pcs that notes its words. CIBFILE
takes the place of the copy that they work on, and nothing is fetched or handed over.
"""

import os
import runpy
import subprocess
import sys
import tempfile

NOTE = """#!/bin/sh
for word; do printf '%s\\0' "$word"; done >> "$NOTED"; printf '\\n\\0' >> "$NOTED"\n"""


def commands(script):
    """The words of each pcs command that the script would run on its copy of the CIB."""
    with tempfile.TemporaryDirectory() as directory:
        note, noted = os.path.join(directory, "pcs"), os.path.join(directory, "noted")
        with open(note, "w") as file:
            file.write(NOTE)
        os.chmod(note, 0o755)
        path = f"{directory}:{os.environ['PATH']}"
        subprocess.run(
            ["sh", script], env={**os.environ, "PATH": path, "NOTED": noted}, check=True
        )
        with open(noted) as file:
            entries = file.read().split("\n\0")
    (*_, old), *inside, last = [entry.split("\0")[:-1] for entry in entries if entry]
    copy = last[2]
    assert last == ["cluster", "cib-push", copy, f"diff-against={old}"], last
    assert {tuple(words[:2]) for words in inside} == {("-f", copy)}
    return [words[2:] for words in inside]


def main(script, cib):
    """Run them all; ends with the status of the first that fails."""
    import pcs.app  # noqa: F401  (what every command would load)

    for words in commands(script):
        child = os.fork()
        if child == 0:
            sys.argv = ["pcs", "-f", cib, *words]
            runpy.run_path("/usr/sbin/pcs", run_name="__main__")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{' '.join(words)}: ended with {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
