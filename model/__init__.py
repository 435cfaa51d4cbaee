"""The lock protocol as a model: locks.pml, checked exhaustively by `python3 -m model`."""
