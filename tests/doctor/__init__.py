"""Tests of mailman-ha doctor: every finding has a test that causes it."""
