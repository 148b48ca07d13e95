-- $1 worker, $2 slots, $3 to $6 their GPUs, their model, their memory and the worker's labels: as many jobs as there are
-- slots, or as are ready, of the lane and priority that come first. One row without a job where a gate stands before that lane,
-- or others hold all of it: then claim.sql takes one. No row where nothing is ready. See there for the order, and for why this
-- is written as it is.
with served as materialized (
    select lane.id as lane, of_sweep.id is not null or of_kind.id is not null as gated
    from lane
    left join gate as of_sweep on of_sweep.id = lane.sweep_gate and of_sweep.max_running is not null
    left join gate as of_kind on of_kind.id = lane.kind_gate and of_kind.max_running is not null
    where lane.closed_at is null and lane_fits(lane, $3, $4, $5, $6) and exists (select from worker where id = $1 and stopped_at is null)
),
head as materialized (
    select served.lane, served.gated, next.priority, next.again
    from served cross join lateral (
        (select id, priority, turn, false as again
        from job
        where state = 'ready' and not held and n_attempts = 0 and lane = served.lane and run_at <= now()
        order by priority desc, turn, id
        limit 1)
        union all
        (select id, priority, turn, true
        from job
        where state = 'ready' and not held and n_attempts > 0 and lane = served.lane and run_at <= now()
        order by priority desc, run_at, id
        limit 1)
    ) as next
    order by next.priority desc, next.turn, next.id
    limit 1
),
fresh as materialized (
    select id
    from job
    where state = 'ready' and not held and n_attempts = 0 and run_at <= now()
        and lane = (select lane from head where not gated and not again) and priority = (select priority from head)
    order by turn, id
    limit cardinality($2::text[])
    for update skip locked
),
again as materialized (
    select id
    from job
    where state = 'ready' and not held and n_attempts > 0 and run_at <= now()
        and lane = (select lane from head where not gated and again) and priority = (select priority from head)
    order by run_at, id
    limit cardinality($2::text[])
    for update skip locked
),
placed as materialized (
    select id, ($2::text[])[row_number() over (order by id)] as slot
    from (select id from fresh union all select id from again) as taken
),
claimed as (
    update job
    set state = 'running',
        lease = nextval('lease_seq'),
        worker_id = $1,
        slot = placed.slot,
        started_at = now(),
        deadline_at = now() + make_interval(secs => limit_s),
        n_attempts = n_attempts + 1,
        has_permit = false,
        passed_at = null,
        progress = null
    from placed
    where job.id = placed.id
    returning job.id, job.lease, job.slot, job.task, job.affinity, job.limit_s, job.n_attempts, job.lane, job.priority, job.turn
),
tried as (
    insert into attempt (lease, job_id, number, worker_id, slot, lane, priority, turn)
    select lease, id, n_attempts, $1, slot, lane, priority, turn
    from claimed
)
select claimed.id as "id?", claimed.lease as "lease?", claimed.slot as "slot?", claimed.task as "task?",
    claimed.affinity as "affinity?", claimed.limit_s as "limit_s?", claimed.n_attempts as "n_attempts?"
from head left join claimed on true
