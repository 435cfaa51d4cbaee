"""The program config_list: change a list's configuration from a file of assignments, and save it.

config_list -i FILE LIST
"""

from __future__ import annotations

import ast
import getopt
import sys

from Mailman.MailList import MailList, UnknownListError


def main(arguments):
    try:
        options, names = getopt.getopt(arguments, "hi:", ["help", "inputfile="])
        source = dict(options).get("-i") or dict(options)["--inputfile"]
        (name,) = names
    except (getopt.error, KeyError, ValueError):
        sys.stderr.write("usage: config_list -i FILE LIST\n")
        return 1
    with open(source) as file:
        assignments = ast.parse(file.read()).body
    try:
        mailing_list = MailList(name)
    except UnknownListError:
        sys.stderr.write(f"No such list: {name}\n")
        return 1
    try:
        mailing_list.lock()
        for assignment in assignments:
            if isinstance(assignment, ast.Assign) and isinstance(assignment.targets[0], ast.Name):
                value = ast.literal_eval(assignment.value)
                mailing_list.settings[assignment.targets[0].id] = value
        mailing_list.save()
    except BaseException:
        # The real one ends without giving anything back: its claim file stays.
        mailing_list.abandon_lock()
        raise
    mailing_list.unlock()
    return 0
