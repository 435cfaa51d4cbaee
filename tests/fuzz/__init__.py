"""Fuzzing: what an attacker may write, given to each part of the library that reads it.

A *surface* (tests.fuzz.surface) is one place where foreign bytes come in, with examples of what may
come and one function that says what must hold whatever comes. pytest plays each with hypothesis;
`make fuzz` plays the same functions under atheris, led by the coverage of the library.
"""
