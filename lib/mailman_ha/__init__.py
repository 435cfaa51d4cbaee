"""Resource agents and tools that keep GNU Mailman serving when a node of the cluster dies.

Imports run downwards only: agents, cli -> topology -> mailman, queues, lists -> evidence ->
locks -> ocf.  Nothing is imported here, so that an agent pays only for what it uses.
"""

__version__ = "0.1.0"

#: When this version was made: the date of its manual pages.
RELEASED = "2026-11-26"
