"""Mailman's lock files, 2.1 and 3: name grammar, reading a directory, verdicts, release, holding.

Knows neither Pacemaker nor Mailman's commands: what is known of hosts and processes comes in as
the records of :mod:`mailman_ha.locks.verdict`.
"""
