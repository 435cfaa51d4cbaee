# Keeps the agents where the cluster on this node has resources of them. Stopping the cluster here
# is always a way out; a cluster that does not answer is waited for ten seconds, then its file read.
resources=$(timeout -k 1 10 cibadmin --query --scope resources 2>/dev/null) || resources=
if [ -z "$resources" ] && grep -qsx 'pacemakerd\|pacemaker-remot' /proc/[0-9]*/comm; then
    resources=$(cat /var/lib/pacemaker/cib/cib.xml 2>/dev/null) || :
fi
ours=$(printf %s "$resources" | grep -o '<\(primitive\|template\) [^>]*provider="@PROVIDER@"[^>]*>' |
    sed 's/.* id="\([^"]*\)".*/\1/' | paste -s -d ' ')
if [ -n "$ours" ]; then
    echo "mailman-ha is not removed: the cluster that runs on this node has resources of its agents" \
        "($ours), and a node that cannot stop them is fenced; delete them (pcs resource delete, crm" \
        "configure delete) or stop the cluster on this node (pcs cluster stop, crm cluster stop)," \
        "then remove mailman-ha" >&2
    exit 1
fi
