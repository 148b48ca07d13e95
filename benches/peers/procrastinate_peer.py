"""Procrastinate doing what `jobctl bench queue` does, measured in the same way: one scenario a call, one JSON line."""

import argparse
import asyncio
import json
import time

import procrastinate
from psycopg import sql


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    for name in ["executors", "pool", "jobs", "rate", "seconds", "history", "unmatched", "each", "warmup"]:
        parser.add_argument(f"--{name}", type=int, default=0)
    return parser.parse_args()


ask = arguments()
connector = procrastinate.PsycopgConnector(conninfo=ask.url, min_size=1, max_size=max(ask.pool, 1))
app = procrastinate.App(connector=connector)
start = time.perf_counter()
waits = []


@app.task(name="noop", queue="default")
async def noop(at):
    if at:
        waits.append(time.perf_counter() - start - at)


async def value(query):
    row = await app.connector.execute_query_one_async(query)
    return row["value"]


async def vacuum():
    async with app.connector.pool.connection() as connection:
        await connection.set_autocommit(True)
        await connection.execute(sql.SQL("vacuum analyze"))
        await connection.set_autocommit(False)


async def prepare():
    """Finished jobs in the table, and jobs of another queue before those that will be worked."""
    # Without the events that its triggers would write of each.
    await app.connector.execute_query_async("alter table procrastinate_jobs disable trigger user")
    await app.connector.execute_query_async(
        f"""insert into procrastinate_jobs (queue_name, task_name, args, status, attempts)
        select 'default', 'noop', '{{"at": 0}}', 'succeeded', 1 from generate_series(1, {ask.history})"""
    )
    await app.connector.execute_query_async(
        f"""insert into procrastinate_jobs (queue_name, task_name, priority, args)
        select 'elsewhere', 'noop', 100, '{{"at": 0}}' from generate_series(1, {ask.unmatched})"""
    )
    await app.connector.execute_query_async("alter table procrastinate_jobs enable trigger user")
    await vacuum()


async def enqueue():
    for first in range(0, ask.jobs, 1000):
        await noop.batch_defer_async(*[{"at": 0} for _ in range(min(1000, ask.jobs - first))])


def worker(polling):
    return app.run_worker_async(
        queues=["default"],
        concurrency=ask.executors,
        fetch_job_polling_interval=polling,
        install_signal_handlers=False,
    )


async def burn_down():
    await enqueue()
    await vacuum()
    begun = time.perf_counter()
    task = asyncio.create_task(worker(0.1))
    left = "select exists (select from procrastinate_jobs where status in ('todo', 'doing') and queue_name = 'default') as value"
    while await value(left):
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - begun
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {"seconds": seconds, "jobs_per_s": ask.jobs / seconds}


async def open_loop():
    task = asyncio.create_task(worker(0.1))
    await asyncio.sleep(0.5)
    begun = time.perf_counter() - start
    inserts = []
    each = max(ask.each, 1)
    # What is due while it warms up is not counted.
    n_warm, n_counted = (-(-ask.rate * seconds // each) for seconds in [ask.warmup, ask.seconds])
    for idx in range(n_warm + n_counted):
        due = begun + idx * each / ask.rate
        await asyncio.sleep(max(0, due - (time.perf_counter() - start)))
        inserts.append(asyncio.create_task(noop.batch_defer_async(*[{"at": due if idx >= n_warm else 0}] * each)))
    await asyncio.gather(*inserts)
    limit = time.perf_counter() + 60
    while len(waits) < n_counted * each and time.perf_counter() < limit:
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    waits.sort()
    at = lambda share: 1000 * waits[int((len(waits) - 1) * share)]
    return {"started": len(waits), "p50_ms": at(0.5), "p99_ms": at(0.99)}


async def main():
    async with app.open_async():
        # A database of earlier rounds has them.
        if not await value("select to_regclass('procrastinate_jobs') is not null as value"):
            await app.schema_manager.apply_schema_async()
        await prepare()
        if ask.rate:
            said = await open_loop()
        elif ask.executors:
            said = await burn_down()
        else:
            begun = time.perf_counter()
            await enqueue()
            said = {"seconds": time.perf_counter() - begun}
        print(json.dumps(said))


asyncio.run(main())
