#!/bin/sh
# Shows what this host has and a node wants, sets it, and sets it back. Without --apply or --undo nothing
# is changed. What is set lasts until the next boot, or until --undo; `ringraft doctor` judges the same.
#
#   host.sh [--cpus LIST] [--data-dir DIR]                      show
#   host.sh --apply [--dry-run] [--cpus LIST] [--data-dir DIR]  set, or say what would be set
#   host.sh --undo [--dry-run]                                  set back what --apply changed
#
# --cpus      the cores of the node, as 2-7: interrupts of network and disk go to the others, packets are
#             steered to these where a device has fewer queues than there are cores
# --data-dir  where the journals are (default /var/lib/ringraft): the disk below it gets its scheduler
# --root      what stands for /, for a trial on files of your own (default /)
#
# What was there before is kept in /run/ringraft-host, which goes with the next boot as the settings do.
# Applying twice changes nothing more. Not set, because it takes a boot, drops connections or belongs to
# the node's own unit, and therefore only shown: kernel, isolated cores, queues of a network device, write
# cache, limits of memory and files. Needs root to change, and nothing but a shell.
set -u

usage() { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mode=show dry='' cpus='' data=/var/lib/ringraft root=''
while [ $# -gt 0 ]; do
    case $1 in
        --apply) mode=apply ;;
        --undo) mode=undo ;;
        --dry-run) dry=yes ;;
        --cpus | --data-dir | --root)
            [ $# -gt 1 ] || usage
            case $1 in
                --cpus) cpus=$2 ;;
                --data-dir) data=$2 ;;
                --root) root=${2%/} ;;
            esac
            shift ;;
        *) usage ;;
    esac
    shift
done
case $cpus in *[!0-9,-]*) usage ;; esac
kept=$root/run/ringraft-host
changed=0 failed=0
if [ $mode != show ] && [ -z "$dry$root" ] && [ "$(id -u)" != 0 ]; then
    echo "host.sh: only root can change these; --dry-run says what would change" >&2
    exit 1
fi

# show NAME FOUND WANTED
show() { [ $mode != show ] || printf '%-22s %-28s wanted: %s\n' "$1" "$2" "$3"; }

# now PATH: the text of a setting, of several words the one in brackets.
now() { if [ -r "$1" ]; then sed 's/.*\[\(.*\)\].*/\1/' "$1"; else echo "not visible here"; fi; }

# limit NAME: what a process started here may have, in bytes or files.
limit() { sed -n "s/^$1 *\([^ ]*\).*/\1/p" /proc/self/limits; }

# put PATH VALUE: writes it and says so; what is there already is left alone.
put() {
    old=$(now "$1")
    [ "$old" != "$2" ] || return 0
    name=${1#"$root"}
    if [ -n "$dry" ]; then
        echo "would set $name: $old -> $2"
    elif echo "$2" > "$1" 2> /dev/null; then
        echo "set $name: $old -> $2"
    else
        echo "host.sh: $name does not take $2" >&2
        failed=1
        return 1
    fi
    changed=$((changed + 1))
}

# setting NAME PATH WANTED [VALUE]: shows it; without a value there is nothing to set.
setting() {
    show "$1" "$(now "$2")" "$3"
    if [ $mode != apply ] || [ -z "${4:-}" ] || [ ! -e "$2" ]; then return 0; fi
    was=$(now "$2")
    [ "$was" != "$4" ] || return 0
    put "$2" "$4" || return 0
    # The first value that was there is the one to go back to.
    if [ -z "$dry" ] && ! grep -qsF " ${2#"$root"} " "$kept"; then
        mkdir -p "$root/run"
        echo "= ${2#"$root"} $was" >> "$kept"
    fi
}

# cores LIST: its cores, one a line.
cores() {
    echo "$1" | tr ',' '\n' | while IFS=- read -r first last; do
        last=${last:-$first}
        while [ -n "$first" ] && [ "$first" -le "$last" ]; do
            echo "$first"
            first=$((first + 1))
        done
    done
}

# mask LIST: the kernel's mask of these cores; nothing when one is above 31, whose masks have more words.
mask() {
    bits=0
    for core in $(cores "$1"); do
        [ "$core" -lt 32 ] || return 0
        bits=$((bits | 1 << core))
    done
    printf '%x\n' $bits
}

# others LIST: the cores that are there and not in it, separated by commas.
others() {
    for core in $(cores "$(now "$root/sys/devices/system/cpu/online")"); do
        cores "$1" | grep -qx "$core" || echo "$core"
    done | paste -sd, -
}

# interrupts DEVICE-DIRECTORY: their numbers; a virtual device's belong to what it stands on.
interrupts() {
    for at in "$1/msi_irqs" "$1/../msi_irqs" "$1/device/msi_irqs"; do
        if [ -d "$at" ]; then ls "$at"; return; fi
    done
}

if [ $mode = undo ]; then
    if [ ! -e "$kept" ]; then echo "nothing to set back"; exit 0; fi
    while read -r _ path value; do
        if [ -e "$root$path" ]; then put "$root$path" "$value" || :; fi
    done < "$kept"
    if [ -z "$dry" ] && [ $failed = 0 ]; then rm "$kept"; fi
    echo "$changed settings${dry:+ would be} set back"
    exit $failed
fi

cpu=$root/sys/devices/system/cpu
show kernel "$(uname -r)" "6.0 or newer; 5.15 at least"
show cores "$(now "$cpu/online")" "one a shard"
show "isolated cores" "$(now "$cpu/isolated")" "the node's (isolcpus=, nohz_full=), or none"
show "locked memory" "$(limit "Max locked memory")" "64 MiB or unlimited; 512 KiB at least (LimitMEMLOCK=)"
show "open files" "$(limit "Max open files")" "connections_max and 1000 more (LimitNOFILE=)"
setting io_uring "$root/proc/sys/kernel/io_uring_disabled" 0 0
for governor in "$cpu"/cpu[0-9]*/cpufreq/scaling_governor; do
    core=${governor%/cpufreq/*}
    [ ! -e "$governor" ] || setting "governor ${core##*/}" "$governor" performance performance
done
# Latency in microseconds: a deep state takes 100 and more to leave, as long as a durable write.
for state in "$cpu"/cpu[0-9]*/cpuidle/state[0-9]; do
    if [ ! -r "$state/latency" ] || [ "$(cat "$state/latency")" -le 50 ]; then continue; fi
    core=${state%/cpuidle/*}
    setting "off: ${core##*/} ${state##*/}" "$state/disable" "1, it takes $(cat "$state/latency") us" 1
done
# What is good enough already stays as it is.
pages=$root/sys/kernel/mm/transparent_hugepage/enabled swap=$root/proc/sys/vm/swappiness
backlog=$root/proc/sys/net/core/somaxconn
want=madvise
[ "$(now "$pages")" != never ] || want=''
setting "huge pages" "$pages" "madvise or never" "$want"
want=1
if [ -r "$swap" ] && [ "$(now "$swap")" -le 10 ]; then want=''; fi
setting swappiness "$swap" "10 or less" "$want"
want=4096
if [ -r "$backlog" ] && [ "$(now "$backlog")" -ge 1024 ]; then want=''; fi
setting "listen backlog" "$backlog" "1024 or more" "$want"
show "clock source" "$(now "$root/sys/devices/system/clocksource/clocksource0/current_clocksource")" \
    "tsc, or the virtual machine's own"

spare=''
if [ -n "$cpus" ]; then spare=$(others "$cpus"); fi
for device in "$root"/sys/class/net/*; do
    if [ ! -e "$device/device" ] || [ "$(now "$device/operstate")" = down ]; then continue; fi
    name=${device##*/}
    set -- "$device"/queues/rx-*
    show "queues $name" "$#" "one a core (ethtool -L $name combined N, which resets it)"
    steer=''
    if [ -n "$cpus" ]; then
        steer=0
        if [ $# -lt "$(cores "$cpus" | wc -l)" ]; then steer=$(mask "$cpus"); fi
    fi
    for queue in "$@"; do
        setting "steering $name ${queue##*/}" "$queue/rps_cpus" "0, or the node's cores if queues are few" "$steer"
    done
    for irq in $(interrupts "$device/device"); do
        setting "interrupt $irq $name" "$root/proc/irq/$irq/smp_affinity_list" "cores the node has not" "$spare"
    done
done

# The disk below the data directory, or below the nearest one above it that is there.
while [ ! -d "$root$data" ] && [ "$data" != / ]; do data=$(dirname "$data"); done
device=$root/sys/dev/block/$(stat -c '%Hd:%Ld' "$root$data" 2> /dev/null)
for disk in "$device"/slaves/* "$device"; do
    disk=$(readlink -f "$disk") || continue
    [ ! -e "$disk/partition" ] || disk=${disk%/*}
    [ -r "$disk/queue/scheduler" ] || continue
    name=${disk##*/}
    none=none
    # A disk that turns gains by order; virtual ones say so of themselves and do not turn.
    case $name in vd*) ;; *) [ "$(now "$disk/queue/rotational")" != 1 ] || none='' ;; esac
    setting "scheduler $name" "$disk/queue/scheduler" "none; mq-deadline if it turns" "$none"
    show "write cache $name" "$(now "$disk/queue/write_cache")" "any, syncs are honoured; never changed here"
done
if [ $mode = apply ]; then echo "$changed settings${dry:+ would be} changed"; fi
exit $failed
