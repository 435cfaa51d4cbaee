"""Tests of the pages under docs/ and of README.md: what they state as facts holds."""
