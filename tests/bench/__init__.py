"""Tests of the bench: how it judges, without measuring anything of weight."""
