"""The administrator's settings: everything in Defaults, and changes to it below."""

from Mailman.Defaults import *  # noqa: F403
