#!/usr/bin/env bash
# For scripts/systemd/run.sh: becomes the systemd of new namespaces, whose one target runs checks.sh.
#
#   boot.sh DIRECTORY   with the program, the units and checks.sh
set -euo pipefail
work=$1
mount --make-rprivate /
# Nothing that it does reaches the host: its own /dev, /run, /tmp, /var/tmp, and state.
mount -t tmpfs -o mode=755 tmpfs /mnt
devices=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$devices"
for device in 'null 3' 'zero 5' 'full 7' 'random 8' 'urandom 9'; do
  # shellcheck disable=SC2086
  set -- $device
  mknod -m 666 "$devices/$1" c 1 "$2"
done
mknod -m 666 "$devices/tty" c 5 0
ln -s /proc/self/fd "$devices/fd"
ln -s pts/ptmx "$devices/ptmx"
mkdir "$devices/pts" "$devices/shm"
mount --move "$devices" /dev
rmdir "$devices"
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
mkdir /mnt/tidegate
mount --bind "$work" /mnt/tidegate
mkdir /mnt/www && echo content > /mnt/www/file
for directory in /run /tmp /var/tmp /var/lib /var/log /var/cache; do
  mount -t tmpfs -o mode=755 tmpfs $directory
done
# Between the two of cgroup2, where the host has it there: it cannot be mounted on itself.
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
units=/run/systemd/system
mkdir -p $units/tidegate.service.d
cp /mnt/tidegate/tidegate.socket $units
# Its commands as they are, of the binary that is tested.
sed 's|=/usr/bin/tidegate|=/mnt/tidegate/bin/tidegate|' /mnt/tidegate/tidegate.service > $units/tidegate.service
cat > $units/tidegate.service.d/test.conf <<END
[Unit]
Wants=
After=
DefaultDependencies=no
[Service]
Environment=TIDEGATE_CONFIG=/mnt/tidegate/tidegate.toml
StandardError=append:/mnt/tidegate/journal
StandardOutput=append:/mnt/tidegate/journal
END
mkdir -p $units/tidegate.socket.d
printf '[Unit]\nDefaultDependencies=no\n' > $units/tidegate.socket.d/test.conf
cat > $units/checks.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/tidegate/checks.sh
StandardError=append:/mnt/tidegate/log
StandardOutput=append:/mnt/tidegate/log
END
cat > $units/checks.target <<END
[Unit]
Wants=checks.service
END
chmod 755 /mnt/tidegate
exec env -i container=other "PATH=$PATH" /lib/systemd/systemd --system --unit=checks.target \
  --log-target=null --show-status=0
