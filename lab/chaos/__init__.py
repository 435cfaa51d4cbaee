"""The campaign: random faults on real clusters under mail, and whether the promises hold.

plan      which fault in which round on which cluster, from a seed alone
faults    what is done to a cluster, and how the world outside mends it
campaign  the rounds: mail, fault, mending, rest, judgement
promises  what has to be true of a round (pure)
report    the table and the timeline, from the rounds that were written down
"""
