#!/usr/bin/env python3
"""The queue against riverqueue and Procrastinate: one Postgres, the same connections and executors, in turns.

usage: benches/queues.py JOBCTL RIVER_PEER PYTHON URL [--rounds 3] [--jobs 20000] [--seconds 20] [--history 10000000]
       [--pool 10] [--only burn,latency,enqueue] [--quick]

Each scenario has a database of its own, dropped afterwards. Prints one table; every figure is the median of the rounds,
with the lowest and the highest.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import uuid
from urllib.parse import urlsplit, urlunsplit

parser = argparse.ArgumentParser()
for name in ["jobctl", "river", "python", "url"]:
    parser.add_argument(name)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--jobs", type=int, default=20_000)
parser.add_argument("--seconds", type=int, default=20)
parser.add_argument("--history", type=int, default=10_000_000)
parser.add_argument("--unmatched", type=int, default=100_000)
parser.add_argument("--pool", type=int, default=10)
parser.add_argument("--executors", default="1,16,256")
parser.add_argument("--enqueue", default="100000,1000000")
parser.add_argument("--only", default="burn,latency,enqueue")
parser.add_argument("--slow", type=int, default=2_000, help="how many jobs one executor, a slot or Procrastinate burn down")
ask = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))


def psql(statement):
    subprocess.run(["psql", "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", statement, ask.url], check=True)


def run(command, env=None):
    done = subprocess.run(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        return {"error": f"status {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def options(numbers):
    return [word for name, n in numbers.items() if n for word in (f"--{name}", str(n))]


def ours(only, how=None, **numbers):
    numbers = dict(numbers)
    command = [ask.jobctl, "bench", "queue", "--json", "--only", only, "--pool", str(ask.pool)]
    if how:
        command += ["--how", how]
    if numbers.pop("snapshot", False):
        command.append("--snapshot")
    if only == "enqueue":
        numbers["enqueue"] = numbers.pop("jobs")
    return run(command + options(numbers), {"DATABASE_URL": ask.url})


def theirs(peer, snapshot=False, **numbers):
    name = f"bench_{uuid.uuid4().hex}"
    psql(f"create database {name}")
    url = urlunsplit(urlsplit(ask.url)._replace(path=f"/{name}"))
    holder = None
    try:
        command = [ask.river] if peer == "riverqueue" else [ask.python, f"{here}/peers/procrastinate_peer.py"]
        if snapshot:
            # A transaction of any database of the server holds back the cleaning of shared tables only: it must be this one's.
            holder = subprocess.Popen(
                ["psql", "--quiet", "--no-psqlrc", url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            holder.stdin.write("begin isolation level repeatable read; select 1;\n")
            holder.stdin.flush()
        return run(command + ["--url", url, "--pool", str(ask.pool)] + options(numbers))
    finally:
        if holder:
            holder.kill()
            holder.wait()
        psql(f"drop database {name} with (force)")


def jobs_for(who, n):
    """A slow one burns down fewer: the rate is what counts."""
    return ask.slow if n == 1 or who == "Procrastinate" else ask.jobs


def scenarios():
    """(title, unit key, {column: a call})."""
    only = ask.only.split(",")
    if "burn" in only:
        for n in map(int, ask.executors.split(",")):
            yield f"no-op jobs a second, {n} executors", "jobs_per_s", {
                "jobctl, single": lambda n=n: ours("burn", "single", executors=n, jobs=jobs_for("jobctl", n)),
                "jobctl, batched": lambda n=n: ours("burn", "batched", executors=n, jobs=jobs_for("jobctl", n)),
                "jobctl, slots": lambda n=n: ours("burn", "slots", executors=n, jobs=ask.slow) if n <= 64 else {},
                "riverqueue": lambda n=n: theirs("riverqueue", executors=n, jobs=jobs_for("riverqueue", n)),
                "Procrastinate": lambda n=n: theirs("Procrastinate", executors=n, jobs=ask.slow),
            }
    if "latency" in only:
        grounds = {
            "": {},
            f", {ask.history:,} jobs done": {"history": ask.history},
            f", {ask.unmatched:,} others ahead": {"unmatched": ask.unmatched},
            ", old snapshot": {"snapshot": True},
        }
        for (words, ground), each in itertools.product(grounds.items(), [1, 10]):
            of = {"executors": 16, "rate": 200, "each": each, "seconds": ask.seconds, **ground}
            for key in ["p50_ms", "p99_ms"]:
                yield f"start after enqueue at 200 a second, {each} at a time, {key[:3]} in ms{words}", key, {
                    "jobctl, single": lambda of=of: ours("latency", "single", **of),
                    "jobctl, batched": lambda of=of: ours("latency", "batched", **of),
                    "riverqueue": lambda of=of: theirs("riverqueue", **of),
                    "Procrastinate": lambda of=of: theirs("Procrastinate", **of),
                }
            if words and each == 1:
                plain = {name: n for name, n in of.items() if name not in ("rate", "seconds", "each")}
                yield f"no-op jobs a second, 16 executors{words}", "jobs_per_s", {
                    "jobctl, single": lambda of=plain: ours("burn", "single", jobs=ask.jobs, **of),
                    "jobctl, batched": lambda of=plain: ours("burn", "batched", jobs=ask.jobs, **of),
                    "riverqueue": lambda of=plain: theirs("riverqueue", jobs=ask.jobs, **of),
                    "Procrastinate": lambda of=plain: theirs("Procrastinate", jobs=ask.slow, **of),
                }
    if "enqueue" in only:
        for n in map(int, ask.enqueue.split(",")):
            yield f"enqueue of {n:,}, in s", "seconds", {
                "jobctl, single": lambda n=n: ours("enqueue", jobs=n),
                "riverqueue": lambda n=n: theirs("riverqueue", jobs=n),
                "Procrastinate": lambda n=n: theirs("Procrastinate", jobs=n),
            }


columns = ["jobctl, single", "jobctl, batched", "jobctl, slots", "riverqueue", "Procrastinate"]
rows = []
seen = {}
for title, key, calls in scenarios():
    figures = {column: [] for column in calls}
    for idx in range(ask.rounds):
        # In turns, beginning with another one each time.
        order = list(calls)
        for column in order[idx % len(order):] + order[: idx % len(order)]:
            # One run gives both percentiles.
            cache = (title.replace("p50", "p").replace("p99", "p"), column, idx)
            if cache not in seen:
                seen[cache] = calls[column]()
            said = seen[cache]
            if key in said:
                figures[column].append(said[key])
            elif said:
                print(f"{title}: {column}: {said}", file=sys.stderr)
    cells = []
    for column in columns:
        values = figures.get(column, [])
        digits = 2 if "ms" in key or key == "seconds" else 0
        cells.append(
            f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if values else "–"
        )
    rows.append((title, cells))
    print(f"{title}: " + "; ".join(f"{c} {v}" for c, v in zip(columns, cells)), file=sys.stderr, flush=True)

print("| | " + " | ".join(columns) + " |")
print("|---" * (len(columns) + 1) + "|")
for title, cells in rows:
    print(f"| {title} | " + " | ".join(cells) + " |")
