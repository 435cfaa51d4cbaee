# An upgrade has put the other version's agents in place, and this version's library goes next:
# first the byte code, which the package does not list.
if ! grep -qs '"@LIBRARY@"' '@AGENTDIR@/mailman-master'; then
#AWAIT-ACTIONS#
    find '@LIBRARY@' -name __pycache__ -prune -exec rm -rf '{}' +
fi
