-- $1 lane, $2 what the slot has loaded, $3 worker, $4 slot.
-- The states are literal and the lane leads the index, so that the planner uses the partial indexes;
-- a CTE, not a sub-select, so that it cannot run the limit twice.
with alive as materialized (
    -- A worker that was given up for dead may not know it yet.
    select from worker where id = $3 and stopped_at is null
),
-- Of the jobs that are due next, one that the slot has loaded. Looking at a window needs no index of its own.
near as materialized (
    select id, priority, affinity
    from job
    where state = 'ready' and not held and lane = $1 and run_at <= now() and $2::bigint is not null
    order by priority desc, run_at, id
    limit 256
),
loaded as materialized (
    select id
    from job
    where id in (select id from near where affinity = $2 and priority = (select max(priority) from near))
        and state = 'ready' and not held and exists (select from alive)
    order by run_at, id
    limit 1
    for update skip locked
),
first as materialized (
    select id
    from job
    where state = 'ready' and not held and lane = $1 and run_at <= now() and exists (select from alive)
        and not exists (select from loaded)
    order by priority desc, run_at, id
    limit 1
    for update skip locked
),
claimed as (
    update job
    set state = 'running',
        lease = nextval('lease_seq'),
        worker_id = $3,
        slot = $4,
        started_at = now(),
        deadline_at = now() + make_interval(secs => limit_s),
        n_attempts = n_attempts + 1,
        progress = null
    where id in (select id from loaded union all select id from first)
    returning id, lease, task, affinity, limit_s, n_attempts, run_at
),
tried as (
    insert into attempt (lease, job_id, number, worker_id, slot)
    select lease, id, n_attempts, $3, $4
    from claimed
)
select id, lease as "lease!", task, affinity, limit_s, n_attempts,
    extract(epoch from clock_timestamp() - run_at)::float8 as "waited_s!"
from claimed
