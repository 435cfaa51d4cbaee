#!/bin/sh
# Brings one node up, from inside its new namespaces (mount, uts, ipc, pid, net) to the exec of
# its init. Runs with the host's programs until pivot_root, with the image's after it.
#
#   boot.sh NODE NODE_DIR LOWER_DIRS LAB_DIR STORE ADDRESS/LEN CLUSTER(yes|no)
#
# STORE is what the nodes share: disk:MAJOR:MINOR or directory:PATH.
set -e
node=$1 dir=$2 lower=$3 shared=$4 store=$5 address=$6 cluster=$7
root=$dir/root

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"

# A /dev of the node's own. The shared disk has one name in every node. There is no watchdog.
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name number minor_number <<END
$device
END
    mknod -m 666 "$root/dev/$name" c "$number" "$minor_number"
done
case $store in
disk:*)
    IFS=: read -r kind major minor_number <<END
$store
END
    mknod -m 660 "$root/dev/shared-disk" b "$major" "$minor_number"
    ;;
directory:*)
    mkdir -p "$root/srv/shared-directory"
    mount --bind "${store#directory:}" "$root/srv/shared-directory"
    ;;
esac
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

# The kernel is the host's. A cluster node in despair writes to sysrq-trigger to reset its
# machine, and some agents write sysctls: neither may reach the host. ns_last_pid belongs to the
# node's own pid namespace and stays writable, for tests that want a pid to be used again.
if [ -e /proc/sysrq-trigger ]; then
    mount --bind /dev/null "$root/proc/sysrq-trigger"
fi
: > "$root/run/ns_last_pid"
mount --bind "$root/proc/sys/kernel/ns_last_pid" "$root/run/ns_last_pid"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --bind "$root/run/ns_last_pid" "$root/proc/sys/kernel/ns_last_pid"
umount "$root/run/ns_last_pid"
rm "$root/run/ns_last_pid"

# The fence agent's way out: a directory with the socket of the lab's power switch.
mkdir "$root/run/lab"
mount --bind "$shared" "$root/run/lab"

hostname "$node"
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up

cd "$root"
pivot_root . .
umount -l .
# The namespaces do not cover loading kernel modules and the clock.
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    /usr/bin/setpriv --bounding-set=-sys_module,-sys_time --inh-caps=-sys_module,-sys_time \
    /usr/bin/python3 -IS /usr/lib/mailman-ha-lab/init.py "$cluster"
