"""Tests of one installation: where it is, what it says of itself, which processes are its."""
