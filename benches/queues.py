#!/usr/bin/env python3
"""The queue against riverqueue and Procrastinate: one Postgres, the same connections and executors, in turns.

usage: benches/queues.py JOBCTL RIVER_PEER PYTHON URL [--rounds 3] [--jobs 20000] [--seconds 10] [--history 10000000]
       [--pool 10] [--only burn,latency,unmatched,snapshot,history,enqueue]

Each scenario has a database of its own, dropped afterwards. Prints one table; every figure is the median of the rounds,
with the lowest and the highest. A long history takes minutes to write, so each peer gets one for all rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import uuid
from collections import defaultdict
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

parser = argparse.ArgumentParser()
for name in ["jobctl", "river", "python", "url"]:
    parser.add_argument(name)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--jobs", type=int, default=20_000)
parser.add_argument("--seconds", type=int, default=10)
parser.add_argument("--warmup", type=int, default=3, help="seconds of enqueueing before what is counted")
parser.add_argument("--history", type=int, default=10_000_000)
parser.add_argument("--unmatched", type=int, default=100_000)
parser.add_argument("--pool", type=int, default=10)
parser.add_argument("--executors", default="1,16,256")
parser.add_argument("--enqueue", default="100000,1000000")
parser.add_argument("--only", default="burn,latency,unmatched,snapshot,history,enqueue")
parser.add_argument("--slow", type=int, default=2_000, help="how many jobs one executor, a slot or Procrastinate burn down")
ask = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))


def psql(statement):
    subprocess.run(["psql", "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", statement, ask.url], check=True)


def run(command, env=None):
    """What a measurement says: one object a line."""
    done = subprocess.run(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        print(f"status {done.returncode}: {' '.join(command[:4])} …", file=sys.stderr)
        return []
    return [json.loads(line) for line in done.stdout.strip().splitlines() if line.startswith("{")]


def options(numbers):
    return [word for name, n in numbers.items() if n for word in (f"--{name}", str(n))]


def ours(only, snapshot=False, **numbers):
    command = [ask.jobctl, "bench", "queue", "--json", "--only", only, "--pool", str(ask.pool)]
    command += ["--snapshot"] if snapshot else []
    return run(command + options(numbers), {"DATABASE_URL": ask.url})


@contextmanager
def database():
    name = f"bench_{uuid.uuid4().hex}"
    psql(f"create database {name}")
    try:
        yield urlunsplit(urlsplit(ask.url)._replace(path=f"/{name}"))
    finally:
        psql(f"drop database {name} with (force)")


@contextmanager
def old_snapshot(url):
    """A transaction of any database of the server holds back the cleaning of shared tables only: it must be this one's."""
    holder = subprocess.Popen(
        ["psql", "--quiet", "--no-psqlrc", url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    holder.stdin.write("begin isolation level repeatable read; select 1;\n")
    holder.stdin.flush()
    try:
        yield
    finally:
        holder.kill()
        holder.wait()


def peer(who, url, **numbers):
    command = [ask.river] if who == "riverqueue" else [ask.python, f"{here}/peers/procrastinate_peer.py"]
    return run(command + ["--url", url, "--pool", str(ask.pool)] + options(numbers))


def theirs(who, snapshot=False, **numbers):
    with database() as url:
        if not snapshot:
            return peer(who, url, **numbers)
        with old_snapshot(url):
            return peer(who, url, **numbers)


PEERS = ["riverqueue", "Procrastinate"]
COLUMNS = ["jobctl, single", "jobctl, batched", "jobctl, slots", *PEERS]
table = defaultdict(lambda: defaultdict(list))  # title: column: figures


def note(title, column, key, said):
    for it in said:
        table[title][column].append(it[key])


def note_latency(ground, each, column, said):
    for key in ["p50_ms", "p99_ms"]:
        note(f"start after enqueue at 200 a second, {each} at a time, {key[:3]} in ms{ground}", column, key, said)


def in_turns(calls, rounds=ask.rounds):
    """Every call once a round, beginning with another one each time."""
    for idx in range(rounds):
        for call in calls[idx % len(calls) :] + calls[: idx % len(calls)]:
            call()


def jobs_for(who, n):
    """A slow one burns down fewer: the rate is what counts."""
    return ask.slow if n == 1 or who in ["Procrastinate", "slots"] else ask.jobs


def burn(n, ground="", **of):
    title = f"no-op jobs a second, {n} executors{ground}"
    calls = []
    # Who is asked for 256 slots starts as many processes.
    for how in ["single", "batched"] + (["slots"] if n <= 64 and not ground else []):
        numbers = {"how": how, "executors": n, "jobs": jobs_for(how, n), **of}
        calls.append(lambda how=how, it=numbers: note(title, f"jobctl, {how}", "jobs_per_s", ours("burn", **it)))
    for who in PEERS:
        numbers = {"executors": n, "jobs": jobs_for(who, n), **of}
        calls.append(lambda who=who, it=numbers: note(title, who, "jobs_per_s", theirs(who, **it)))
    in_turns(calls)


def offered(each):
    return {"executors": 16, "rate": 200, "each": each, "seconds": ask.seconds, "warmup": ask.warmup}


def latency(ground="", **of):
    for each in [1, 10]:
        numbers = {**offered(each), **of}
        calls = []
        for how in ["single", "batched"]:
            calls.append(
                lambda how=how: note_latency(ground, each, f"jobctl, {how}", ours("latency", how=how, **numbers))
            )
        for who in PEERS:
            calls.append(lambda who=who: note_latency(ground, each, who, theirs(who, **numbers)))
        in_turns(calls)


def history():
    """One history each, for all rounds."""
    ground = f", {ask.history:,} jobs done"
    title = f"no-op jobs a second, 16 executors{ground}"
    said = ours(
        "burn,latency",
        history=ask.history,
        how="single,batched",
        jobs=ask.jobs,
        **{**offered("1,10"), "executors": ",".join(["16"] * ask.rounds)},
    )
    for it in said:
        column = f"jobctl, {it['how']}"
        if it["what"] == "burn":
            note(title, column, "jobs_per_s", [it])
        else:
            note_latency(ground, it["each"], column, [it])
    for who in PEERS:
        with database() as url:
            written = {"history": ask.history}
            for _ in range(ask.rounds):
                note(title, who, "jobs_per_s", peer(who, url, executors=16, jobs=jobs_for(who, 16), **written))
                written = {}
                for each in [1, 10]:
                    note_latency(ground, each, who, peer(who, url, **offered(each)))


def enqueue(n):
    title = f"enqueue of {n:,}, in s"
    calls = [lambda: note(title, "jobctl, single", "seconds", ours("enqueue", enqueue=n))]
    calls += [lambda who=who: note(title, who, "seconds", theirs(who, jobs=n)) for who in PEERS]
    # Minutes each: once is enough.
    in_turns(calls, ask.rounds if n <= 100_000 else 1)


def cell(title, column):
    values = table[title].get(column)
    if not values:
        return "–"
    digits = 0 if "jobs a second" in title else 2
    of = statistics.median(values), min(values), max(values)
    return "{} ({} to {})".format(*(f"{it:,.{digits}f}" for it in of))


told = set()
for what in ask.only.split(","):
    if what == "burn":
        for n in map(int, ask.executors.split(",")):
            burn(n)
    elif what == "latency":
        latency()
    elif what == "unmatched":
        ground = f", {ask.unmatched:,} others ahead"
        burn(16, ground, unmatched=ask.unmatched)
        latency(ground, unmatched=ask.unmatched)
    elif what == "snapshot":
        burn(16, ", old snapshot", snapshot=True)
        latency(", old snapshot", snapshot=True)
    elif what == "history":
        history()
    elif what == "enqueue":
        for n in map(int, ask.enqueue.split(",")):
            enqueue(n)
    else:
        sys.exit(f"--only: there is no {what}")
    for title in [it for it in table if it not in told]:
        told.add(title)
        print(f"{title}: " + "; ".join(f"{it} {cell(title, it)}" for it in COLUMNS), file=sys.stderr, flush=True)

print("| | " + " | ".join(COLUMNS) + " |")
print("|---" * (len(COLUMNS) + 1) + "|")
for title in table:
    print(f"| {title} | " + " | ".join(cell(title, it) for it in COLUMNS) + " |")
