"""Real NFS on one machine: a knfsd server and its clients, each a user-mode-linux guest.

    with NfsLab(libraries=[...]) as lab:
        lab.client("n1").run(["ls", "/share/v4.2"])
        lab.server.freeze()

The guests' kernels are real ones, with knfsd and the NFS client of Linux 6.1. They stand on a
bridge in a network namespace that has no other way out, so any number of labs fit one machine and
nothing leaves it. Everything hangs on one process, which dies with whoever made the lab.
"""
