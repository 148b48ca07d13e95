-- $1 jobs, $2 their leases, $3 whether leases count for nothing (see fence.rs): ends those well whose lease is still theirs, releases what waits for them, and wakes the workers
-- if some of that is ready. One statement, so that ends which write nothing else cost one round trip and one commit.
with asked as (
    select id, lease from unnest($1::bigint[], $2::bigint[]) as asked (id, lease)
),
-- With their dependants and in the order of their ids, as everybody locks.
locked as materialized (
    select id, lease
    from job
    where id = any(array(select child from job_edge where parent = any($1)) || $1)
    order by id
    for update
),
own as materialized (
    select asked.id, asked.lease from locked join asked on asked.id = locked.id and (asked.lease = locked.lease or $3)
),
closed as (
    update attempt
    set ended_at = now(), outcome = 'done'
    from own
    where attempt.lease = own.lease and attempt.ended_at is null
),
ended as (
    delete from job
    where id = any(array(select id from own))
    returning id, key, kind, lane, priority, n_attempts, max_attempts, limit_s, subject, affinity, megapixels, task,
        created_at, started_at
),
kept as (
    insert into job_history (id, key, kind, lane, priority, state, n_attempts, max_attempts, limit_s, subject, affinity,
        megapixels, task, created_at, started_at)
    select id, key, kind, lane, priority, 'done', n_attempts, max_attempts, limit_s, subject, affinity,
        megapixels, task::jsonb, created_at, started_at
    from ended
),
blocked as (
    select child, count(*)::int as n
    from job_edge
    where parent = any(array(select id from own))
    group by child
),
released as (
    update job
    set n_blockers = n_blockers - blocked.n,
        state = case when n_blockers = blocked.n then 'ready' else 'waiting' end,
        run_at = case when n_blockers = blocked.n then now() else run_at end
    from blocked
    where job.id = blocked.child and job.state = 'waiting'
    returning n_blockers = 0 as ready
),
told as materialized (
    select pg_notify('jobctl', 'ready') from (select from released where ready limit 1) as one
)
select own.lease as "lease!", (select count(*) from told) as "n_told!" from own
