"""Who is alive: processes of this host, nodes of the cluster, and how far clocks may be trusted.

Everything here observes; what follows from it is decided in :mod:`mailman_ha.locks.verdict`.
"""
