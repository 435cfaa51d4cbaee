"""Random histories of the lock library: nodes that are namespaces, claimants that are processes."""
