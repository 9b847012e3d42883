#!/bin/sh
# Prints what this host has and what a node wants. Changes nothing unless called as `host.sh apply`, and
# then only the settings marked with *, until the next boot. Needs nothing but a shell.
set -u

apply=${1:-}
case $apply in
    '' | apply) ;;
    *) echo "usage: host.sh [apply]" >&2; exit 2 ;;
esac
failed=0

# show NAME FOUND WANTED
show() { printf '%-22s %-28s wanted: %s\n' "$1" "$2" "$3"; }

# file PATH: its text, or a word in place of it.
file() { if [ -r "$1" ]; then cat "$1"; else echo "not visible here"; fi; }

# setting NAME PATH WANTED VALUE: shows it, and writes VALUE when asked to.
setting() {
    show "$1 *" "$(file "$2")" "$3"
    if [ "$apply" = apply ] && [ -e "$2" ]; then
        if echo "$4" > "$2"; then echo "    set to $4"; else failed=1; fi
    fi
}

show kernel "$(uname -r)" "5.15 or newer"
show cores "$(nproc)" "one a shard"
show "locked memory, KiB" "$(ulimit -l)" "65536 or unlimited; 512 at least (ulimit -l, LimitMEMLOCK=)"
show "open files" "$(ulimit -n)" "connections_max and 1000 more (ulimit -n, LimitNOFILE=)"
setting io_uring /proc/sys/kernel/io_uring_disabled "0" 0
for governor in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
    [ -e "$governor" ] || { show "cpu governor" "not visible here" performance; break; }
    cpu=${governor#/sys/devices/system/cpu/}
    setting "governor ${cpu%%/*}" "$governor" performance performance
done
setting "huge pages" /sys/kernel/mm/transparent_hugepage/enabled "madvise or never" madvise
setting swappiness /proc/sys/vm/swappiness "10 or less" 1
setting "listen backlog" /proc/sys/net/core/somaxconn "1024 or more" 4096
show "clock source" "$(file /sys/devices/system/clocksource/clocksource0/current_clocksource)" \
    "tsc, or the virtual machine's own"
for queue in /sys/block/*/queue; do
    [ -r "$queue/scheduler" ] || continue
    disk=${queue#/sys/block/}
    disk=${disk%/queue}
    case $disk in loop* | ram* | zram*) continue ;; esac
    setting "scheduler $disk" "$queue/scheduler" "none on a fast disk" none
    show "write cache $disk" "$(file "$queue/write_cache")" "whatever it is, syncs are honoured"
done
exit $failed
