"""The agent qfiles-slice: one slice of one queue, run by exactly one runner of the cluster."""
