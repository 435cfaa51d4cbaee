"""Tests of what observes: cluster, commands, processes, clocks, hosts, user."""
