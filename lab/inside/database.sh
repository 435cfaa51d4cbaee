#!/bin/sh
# Brings up PostgreSQL outside the nodes, from inside namespaces of its own (mount, uts, ipc, pid)
# but on the lab's network, in a root made of the node image. Makes the database the first time.
#
#   database.sh DIR LOWER_DIRS LISTEN_ADDRESS CLIENT_NETWORK NAME
#
# NAME is a database and its owner, whom everybody on the network is trusted to be.
set -e
dir=$1 lower=$2 address=$3 network=$4 name=$5
root=$dir/root

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
for place in run tmp dev; do
    mount -t tmpfs -o mode=1777 tmpfs "$root/$place"
done
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir "$root/dev/shm"
chmod 1777 "$root/dev/shm"
hostname outside

cd "$root"
pivot_root . .
umount -l .
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    /bin/sh -ec '
address=$1 network=$2 name=$3 data=/srv/database
for program in /usr/lib/postgresql/*/bin; do :; done
as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
cd /
if [ ! -e $data/complete ]; then
    rm -rf $data
    install -d -o postgres -g postgres -m 700 $data
    $as_postgres $program/initdb --no-sync --auth=reject --encoding=UTF8 --locale=C.UTF-8 $data
    printf "CREATE ROLE %s LOGIN;\nCREATE DATABASE %s OWNER %s;\n" "$name" "$name" "$name" |
        $as_postgres $program/postgres --single -D $data postgres
    echo "host $name $name $network trust" > $data/pg_hba.conf
    touch $data/complete
fi
rm -f $data/postmaster.pid
# This shell stays, as root: a process forgets that it is to die with its parent when it changes its
# user. What is on disk matters to nobody after this lab. Keepalives: a node whose power was cut must
# not hold row locks for hours.
$as_postgres $program/postgres -D $data \
    -c "listen_addresses=$address" -c unix_socket_directories= -c max_connections=200 \
    -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c jit=off \
    -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=128MB \
    -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 &
wait $!
' sh "$address" "$network" "$name"
