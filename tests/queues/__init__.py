"""Tests of queue entries by their names."""
