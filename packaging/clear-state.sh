# What the agents remember until a reboot. Evidence and quarantine on the share stay.
rm -f /run/resource-agents/mailman-ha-* /run/resource-agents/mailman-master-* \
    /run/resource-agents/qfiles-slice-* /run/resource-agents/list-lock-janitor-*
[ -e /usr/lib/tmpfiles.d/resource-agents.conf ] || rmdir /run/resource-agents 2>/dev/null || :
