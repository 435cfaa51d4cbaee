"""The stand-in for Mailman 2.1: same files, processes, locks and queues, none of its code."""
