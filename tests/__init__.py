"""Tests of mailman-ha."""
