-- $1 lane, $2 what the slot has loaded, $3 worker, $4 slot.
-- The states are literal and the lane leads the index, so that the planner uses the partial indexes;
-- a CTE, not a sub-select, so that it cannot run the limit twice.
with alive as materialized (
    -- A worker that was given up for dead may not know it yet.
    select from worker where id = $3 and stopped_at is null
),
loaded as materialized (
    select id
    from job
    where state = 'ready' and not held and lane = $1 and affinity = $2 and run_at <= now() and exists (select from alive)
        and priority >= coalesce((
            select max(top.priority)
            from (
                select priority
                from job
                where state = 'ready' and not held and lane = $1 and run_at <= now()
                order by priority desc
                limit 1
            ) as top
        ), 0)
    order by priority desc, run_at, id
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
    returning id, lease, task, affinity, limit_s, n_attempts
),
tried as (
    insert into attempt (lease, job_id, number, worker_id, slot)
    select lease, id, n_attempts, $3, $4
    from claimed
)
select id, lease as "lease!", task, affinity, limit_s
from claimed
