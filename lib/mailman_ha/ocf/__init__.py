"""The OCF resource agent protocol: what Pacemaker hands an agent and what it wants back.

An agent is declared once (`declaration`), started by `runtime.run`, and given a `call.Call` for
every action; it answers with an `outcome.Outcome`.  This package knows nothing of mail.
"""
