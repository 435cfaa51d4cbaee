"""Tests of list configurations and their half-finished saves."""
