"""The agents: each observes, judges and acts.

`site` turns an agent's parameters into one installation; `lock_evidence`, `lock_sweep` and
`orderly_end` are the parts that more than one agent is made of.
"""
