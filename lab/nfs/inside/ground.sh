#!/bin/sh
# What the guests of one lab stand on: the tree that is their root, the server's disk, the bridge and
# its ports. Runs in namespaces of its own (net, mount, pid), says "ready", and lasts until its
# standard input ends.
#
#   ground.sh IMAGE PLACE CHECKOUT LIBRARIES SWITCH_ADDRESS/LEN GUEST...
#
# PLACE is an empty directory; LIBRARIES a directory of Python packages, LIBRARIES and CHECKOUT may lie
# anywhere. A GUEST is NAME=ADDRESS.
set -e
image=$1 place=$2 checkout=$3 libraries=$4 switch=$5
shift 5
root=$place/root

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$root" "$place/console"
mount -t overlay overlay -o "lowerdir=$image,upperdir=$place/upper,workdir=$place/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/shm"
# The guests' memory lies there.
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null:1:3 zero:1:5 random:1:8 urandom:1:9 net/tun:10:200; do
    IFS=: read -r name major minor_number <<END
$device
END
    mknod -m 666 "$root/dev/$name" c "$major" "$minor_number"
done
mkdir -p "$root/checkout" "$root/libraries" "$root/disk" "$root/share" "$root/lib/modules"
mount --bind "$checkout" "$root/checkout"
mount -o remount,bind,ro "$root/checkout"
mount --bind "$libraries" "$root/libraries"
mount -o remount,bind,ro "$root/libraries"
ln -s /usr/lib/uml/modules/* "$root/lib/modules/"

truncate -s 64M "$root/server.disk"
mkfs.ext4 -q "$root/server.disk"

ip link set lo up
ip link add switch type bridge stp_state 0 forward_delay 0
ip address add "$switch" dev switch
ip link set switch up
echo "127.0.0.1 localhost" > "$root/etc/hosts"
for guest in "$@"; do
    name=${guest%%=*}
    ip tuntap add mode tap name "port-$name"
    ip link set "port-$name" master switch up
    echo "${guest#*=} $name.lab.example $name" >> "$root/etc/hosts"
done
echo ready
cat > /dev/null
