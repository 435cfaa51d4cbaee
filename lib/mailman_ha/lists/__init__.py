"""List configurations of Mailman 2.1 and their half-finished saves."""
