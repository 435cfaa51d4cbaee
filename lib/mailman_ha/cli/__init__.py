"""mailman-ha, the operator's command: what the agents see and judge, told to a person."""
