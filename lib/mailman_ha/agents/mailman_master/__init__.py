"""The agent mailman-master: one Mailman master, and all its runners, on one node of the cluster."""
