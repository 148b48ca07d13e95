-- $1 a lane without gates, $2 worker, $3 slots: as many jobs as there are slots, or as are ready.
-- See claim.sql for why it is written like this.
with alive as materialized (
    select from worker where id = $2 and stopped_at is null
),
again as materialized (
    select id
    from job
    where state = 'ready' and not held and lane = $1 and n_attempts > 0 and run_at <= now() and exists (select from alive)
    order by priority desc, run_at, id
    limit cardinality($3::text[])
    for update skip locked
),
first as materialized (
    select id
    from job
    where state = 'ready' and not held and lane = $1 and n_attempts = 0 and exists (select from alive)
    order by priority desc, turn, id
    limit cardinality($3::text[]) - (select count(*) from again)
    for update skip locked
),
placed as materialized (
    select id, ($3::text[])[row_number() over (order by id)] as slot
    from (select id from again union all select id from first) as chosen
),
claimed as (
    update job
    set state = 'running',
        lease = nextval('lease_seq'),
        worker_id = $2,
        slot = placed.slot,
        started_at = now(),
        deadline_at = now() + make_interval(secs => limit_s),
        n_attempts = n_attempts + 1,
        passed_at = null,
        progress = null
    from placed
    where job.id = placed.id
    returning job.id, job.lease, job.slot, job.task, job.affinity, job.limit_s, job.n_attempts, job.lane,
        job.priority, job.turn
),
tried as (
    insert into attempt (lease, job_id, number, worker_id, slot, lane, priority, turn)
    select lease, id, n_attempts, $2, slot, lane, priority, turn
    from claimed
)
select id, lease as "lease!", slot as "slot!", task, affinity, limit_s, n_attempts
from claimed
