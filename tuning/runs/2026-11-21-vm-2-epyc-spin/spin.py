#!/usr/bin/env python3
"""Repeats in a random order of a node with each spin_us: idle CPU, 500 reads a second, a lone reader, a lone writer, 256 writes in flight.

   spin.py BINARY DIRECTORY REPEATS > raw.csv
"""
import json, os, random, shutil, subprocess, sys, time

binary, directory, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
here = os.path.dirname(os.path.abspath(__file__))
laptop = os.path.join(here, "../../profiles/laptop.toml")
address = "127.0.0.77:5678"
# name, core of the node, flags
plans = [(f"{spin}", 0, ["--spin-us", str(spin)]) for spin in (0, 20, 50, 200, 1000)]
plans += [("20 on the disk's core", 1, ["--spin-us", "20"]), ("laptop.toml", 0, ["--config", laptop])]
hertz = os.sysconf("SC_CLK_TCK")


def schedstat(pid):
    """CPU seconds of all threads, by the scheduler's own count."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def load(core, workload, pace, number, connections, seconds):
    words = ["taskset", "-c", str(core), binary, "load", workload, "--endpoint", address, "--quiet", "--json",
             pace, str(number), "--connections", str(connections), "--sessions", str(connections),
             "--duration", f"{seconds}s", "--warmup", "0s", "--keys", "10"]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


loads = [("rate", "map-read", 500, 1, 2), ("read", "map-read", 1, 1, 2), ("write", "counter", 1, 1, 2), ("many", "counter", 256, 8, 1)]
figures = ("calls", "p50_us", "p99_us", "cpu_us_each")
print("repeat,plan,idle_cpu_share," + ",".join(f"{load[0]}_{figure}" for load in loads for figure in figures))
for repeat in range(repeats):
    random.Random(repeat).shuffle(order := list(plans))
    for name, core, flags in order:
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        config = os.path.join(directory, "node.toml")
        with open(config, "w") as file:
            file.write("[journal]\nsegment_bytes = 33554432\n")
        words = [binary, "serve", "--config", config, "--data-dir", os.path.join(directory, "data"), "--shards", "1",
                 "--partitions", "1", "--listen", address, "--peer-listen", "127.0.0.77:5679",
                 "--node-id", str(core + 1)] + flags
        # The last --config counts. The node's id is its core: the first shard of node 1 is on the first core.
        node = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        while not node.stdout.readline().startswith("ready"):
            assert node.poll() is None, "the node ended"
        time.sleep(0.5)
        row = [repeat, name]
        before, at = schedstat(node.pid), time.monotonic()
        time.sleep(1)
        row.append(f"{(schedstat(node.pid) - before) / (time.monotonic() - at):.5f}")
        for kind, workload, number, connections, seconds in loads:
            before = schedstat(node.pid)
            result = load(1 - core, workload, "--rate" if kind == "rate" else "--in-flight", number, connections, seconds)
            used = schedstat(node.pid) - before
            calls, times = result["calls"], result["latency_us"]
            p50, p99 = round(times["p50"]), round(times["p99"])
            row += [calls, p50, p99, f"{used * 1e6 / max(calls, 1):.2f}"]
        print(",".join(map(str, row)), flush=True)
        node.terminate()
        node.wait()
