"""A throwaway agent for the tests of mailman_ha.ocf: its resource is one file.

Its parameter `mood` makes it behave as badly as a test wants.
"""
