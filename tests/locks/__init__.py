"""Tests of the lock library: grammar, directory, verdicts, holding, release."""
