#!/bin/sh
# Runs the same load against a ringraft node, a server of the released Atomix dialect and etcd, one after
# the other, whichever addresses are given, and prints their results below each other.
#
#   RINGRAFT=host:5678 ATOMIX=host:5678 ETCD=host:2379 tuning/compare.sh [WORKLOAD [FLAGS OF load ...]]
#   RINGRAFT=127.0.0.1:5678 tuning/compare.sh map-mixed --mix b --in-flight 256
#
# Without a workload it runs counter, map-write and map-read with 256 calls at a time. PARTITION_IDS names the
# partitions of ATOMIX when it does not tell them. OUT is where the JSON of each run stays (default: nowhere).
set -eu

load="${RINGRAFT_BINARY:-ringraft} load"
out="${OUT:-$(mktemp -d)}"
mkdir -p "$out"
failed=0

one() { # target endpoint workload flags...
    target=$1 endpoint=$2 workload=$3
    shift 3
    file="$out/$workload-$target.json"
    ids=
    if [ "$target" = atomix ] && [ -n "${PARTITION_IDS:-}" ]; then ids="--partition-ids $PARTITION_IDS"; fi
    # A failed run has results as well; that it failed is said by the first and shown by the second line.
    $load "$workload" --target "$target" --endpoint "$endpoint" $ids "$@" --quiet --json > "$file" || failed=1
    if [ -s "$file" ]; then $load merge "$file" || failed=1; fi
    echo
}

all() { # workload flags...
    [ -z "${RINGRAFT:-}" ] || one ringraft "$RINGRAFT" "$@"
    [ -z "${ATOMIX:-}" ] || one atomix "$ATOMIX" "$@"
    [ -z "${ETCD:-}" ] || one etcd "$ETCD" "$@"
}

if [ -z "${RINGRAFT:-}${ATOMIX:-}${ETCD:-}" ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
if [ $# -gt 0 ]; then
    all "$@"
else
    for workload in counter map-write map-read; do all "$workload" --in-flight 256; done
fi
[ -n "${OUT:-}" ] || rm -r "$out"
exit $failed
