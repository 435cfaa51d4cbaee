"""A cluster in a box: real corosync, Pacemaker and Mailman on two or three nodes of one machine.

`python3 -m lab --help` for people, `lab.client.Lab` for tests. Needs root on Linux; touches nothing
of the host but its image cache and a state directory under /run.
"""
