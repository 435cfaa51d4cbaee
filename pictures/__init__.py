"""The pictures of the documentation, drawn by programs: `make pictures` makes docs/*.svg anew.

The architecture is drawn from the imports of the library, the failover from a real one.
"""
