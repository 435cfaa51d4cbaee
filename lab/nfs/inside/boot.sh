#!/bin/sh
# A guest's first program: makes it a server or a client of NFS, then becomes process 1 proper.
# The kernel hands over what it was booted with: NAME, ADDRESS (with length), ROLE (server, client)
# and SERVER (its address).
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export PYTHONPYCACHEPREFIX=/run/python
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /srv
mount -t tmpfs -o mode=755 tmpfs /share
mkdir /run/lock /run/rpc_pipefs /run/resource-agents /dev/shm 2>/dev/null || true
hostname "$NAME"
ip link set lo up
ip address add "$ADDRESS" dev eth0
ip link set eth0 up

# As many seconds as a restarted server waits for its old clients. 90 and more are usual.
GRACE=10
modprobe lockd
echo 3 > /proc/sys/fs/nfs/nlm_grace_period
modprobe sunrpc
mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
if [ "$ROLE" = server ]; then
    mount -t ext4 /dev/ubda /disk
    # What knfsd's daemons remember across a restart lies on the disk, too.
    [ -d /disk/nfs ] || cp -a /var/lib/nfs /disk/nfs
    mount --bind /disk/nfs /var/lib/nfs
    mkdir -p /disk/export
    modprobe nfsd
    mount -t nfsd nfsd /proc/fs/nfsd
    echo "$GRACE" > /proc/fs/nfsd/nfsv4leasetime
    echo "$GRACE" > /proc/fs/nfsd/nfsv4gracetime
    rpcbind -w
    nfsdcld
    # Version 4's root must be said: / is no file system that can be exported.
    exportfs -o rw,sync,no_subtree_check,fsid=0 '*:/disk/export'
    rpc.nfsd 4
    rpc.mountd
else
    modprobe nfsv3
    modprobe nfsv4
fi
# The last word makes its children look like Mailman to the library, which they stand for.
exec /usr/bin/python3 /checkout/lab/nfs/inside/process_one.py mailman
