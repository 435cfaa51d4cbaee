"""Puts the installation's Mailman package in front of sys.path, for the programs in bin/."""

import sys

prefix = "@PREFIX@"
exec_prefix = prefix
sys.path.insert(0, prefix)
