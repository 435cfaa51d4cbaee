"""Promises that need a real cluster: the lab's nodes, real Pacemaker, real Mailman."""
