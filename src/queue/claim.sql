-- $1 worker, $2 slot, $3 what the slot has loaded, $4 to $7 its GPUs, their model, their memory and the worker's labels,
-- $8 lanes to leave out. One row: the job, or the lane alone where its last place was taken meanwhile.
-- States are literal and the lane leads the index, so that the planner uses the partial indexes;
-- CTEs, not sub-selects, so that it cannot run a limit twice.
with served as materialized (
    select lane.id as lane, of_sweep.id as sweep_gate, of_sweep.max_running as sweep_max,
        of_kind.id as kind_gate, of_kind.max_running as kind_max
    from lane
    left join gate as of_sweep on of_sweep.id = lane.sweep_gate and of_sweep.max_running is not null
    left join gate as of_kind on of_kind.id = lane.kind_gate and of_kind.max_running is not null
    where lane.closed_at is null and lane_fits(lane, $4, $5, $6, $7) and lane.id <> all ($8)
        -- A worker that was given up for dead may not know it yet.
        and exists (select from worker where id = $1 and stopped_at is null)
        -- A closed gate: no place is free, or more run than may.
        and (of_sweep.id is null or (
            exists (select from permit where gate_id = of_sweep.id and lease is null and number <= of_sweep.max_running)
            and not exists (select from permit where gate_id = of_sweep.id and lease is not null and number > of_sweep.max_running)))
        and (of_kind.id is null or (
            exists (select from permit where gate_id = of_kind.id and lease is null and number <= of_kind.max_running)
            and not exists (select from permit where gate_id = of_kind.id and lease is not null and number > of_kind.max_running)))
),
-- The next job of each lane: one probe of an index for those that have not been tried, one for those that have.
heads as materialized (
    select served.lane, next.*
    from served cross join lateral (
        (select id, priority, turn, passed_at, false as again
        from job
        where state = 'ready' and not held and n_attempts = 0 and lane = served.lane and run_at <= now()
        order by priority desc, turn, id
        limit 1)
        union all
        (select id, priority, turn, passed_at, true
        from job
        where state = 'ready' and not held and n_attempts > 0 and lane = served.lane and run_at <= now()
        order by priority desc, run_at, id
        limit 1)
    ) as next
),
head as materialized (
    select id, priority, turn, passed_at, again
    from heads
    order by priority desc, turn, id
    limit 1
),
-- What the slot has loaded goes before the head, from a window of turns behind it, until the head has been passed over for
-- two minutes.
loaded as materialized (
    select job.id, job.lane
    from job
    where job.id in (
            select near.id
            from head cross join served cross join lateral (
                select id
                from (
                    select id, affinity
                    from job
                    where state = 'ready' and not held and n_attempts = 0 and lane = served.lane and run_at <= now()
                        and priority = head.priority and turn <= head.turn + 256
                    order by turn, id
                    limit 256
                ) as within
                where affinity = $3
                limit 16
            ) as near
            where not head.again and (head.passed_at is null or head.passed_at > now() - interval '2 minutes')
        )
        and job.state = 'ready' and not job.held
        and $3::bigint is not null
    order by job.turn, job.id
    limit 1
    for update skip locked
),
passed as materialized (
    select id
    from job
    where id = (select id from head where passed_at is null) and state = 'ready'
        and exists (select from loaded) and id not in (select id from loaded)
    for update skip locked
),
again as materialized (
    select taken.id, heads.lane
    from (select lane from heads where again order by priority desc, turn, id) as heads
    cross join lateral (
        select id
        from job
        where state = 'ready' and not held and n_attempts > 0 and lane = heads.lane and run_at <= now()
        order by priority desc, run_at, id
        limit 1
        for update skip locked
    ) as taken
    where (select again from head)
    limit 1
),
-- From the head's place on, so that what has gone before it is not walked over twice while a long-open snapshot keeps it.
fresh as materialized (
    select taken.id, heads.lane
    from (select lane, priority, turn from heads where not again order by priority desc, turn, id) as heads
    cross join lateral (
        select id
        from job
        where state = 'ready' and not held and n_attempts = 0 and lane = heads.lane and run_at <= now()
            and priority = heads.priority and turn >= heads.turn
        order by turn, id
        limit 1
        for update skip locked
    ) as taken
    where not exists (select from loaded) and not exists (select from again)
    limit 1
),
-- Others hold all of that: whatever is left.
rest as materialized (
    select taken.id, heads.lane
    from (select lane from heads where not again order by priority desc, turn, id) as heads
    cross join lateral (
        select id
        from job
        where state = 'ready' and not held and n_attempts = 0 and lane = heads.lane and run_at <= now()
        order by priority desc, turn, id
        limit 1
        for update skip locked
    ) as taken
    where not exists (select from loaded) and not exists (select from again) and not exists (select from fresh)
    limit 1
),
chosen as materialized (
    select picked.id, served.lane, served.sweep_gate, served.sweep_max, served.kind_gate, served.kind_max,
        nextval('lease_seq') as lease
    from (
        select id, lane from loaded
        union all select id, lane from again
        union all select id, lane from fresh
        union all select id, lane from rest
    ) as picked
    join served on served.lane = picked.lane
),
of_sweep as materialized (
    select gate_id, number
    from permit
    where gate_id = (select sweep_gate from chosen) and lease is null and number <= (select sweep_max from chosen)
    order by number
    limit 1
    for update skip locked
),
of_kind as materialized (
    select gate_id, number
    from permit
    where gate_id = (select kind_gate from chosen) and lease is null and number <= (select kind_max from chosen)
    order by number
    limit 1
    for update skip locked
),
claimed as (
    update job
    set state = 'running',
        lease = chosen.lease,
        worker_id = $1,
        slot = $2,
        started_at = now(),
        deadline_at = now() + make_interval(secs => limit_s),
        n_attempts = n_attempts + 1,
        has_permit = chosen.sweep_gate is not null or chosen.kind_gate is not null,
        passed_at = null,
        progress = null
    from chosen
    where job.id = chosen.id
        and (chosen.sweep_gate is null or exists (select from of_sweep))
        and (chosen.kind_gate is null or exists (select from of_kind))
    returning job.id, job.lease, job.task, job.affinity, job.limit_s, job.n_attempts, job.lane, job.priority, job.turn, job.run_at
),
places as (
    update permit
    set lease = claimed.lease
    from claimed
    where (permit.gate_id, permit.number) in (
        select gate_id, number from of_sweep union all select gate_id, number from of_kind
    )
),
marked as (
    update job set passed_at = now() where id in (select id from passed)
),
tried as (
    insert into attempt (lease, job_id, number, worker_id, slot, lane, priority, turn)
    select lease, id, n_attempts, $1, $2, lane, priority, turn
    from claimed
)
select chosen.lane as "lane!", claimed.id as "id?", claimed.lease as "lease?", claimed.task as "task?",
    claimed.affinity as "affinity?", claimed.limit_s as "limit_s?",
    claimed.n_attempts as "n_attempts?",
    extract(epoch from clock_timestamp() - claimed.run_at)::float8 as "waited_s?"
from chosen left join claimed on true
