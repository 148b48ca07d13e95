-- Whatever has made an artifact can make it again, whichever kind it is of, and takes its turn.
create or replace function make_again(makers bigint[]) returns setof bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare
    revived bigint[];
begin
    with gone as (
        delete from job_history
        where job_history.id = any(makers) and state = 'done'
            and exists (select from job_output where job_output.key = job_history.key)
            and not exists (select from job where job.id = job_history.id)
        returning id, key, kind, lane, priority, max_attempts, limit_s, subject, affinity, megapixels, task, created_at
    ),
    blockers as (
        select child, count(*)::int as n
        from job_edge
        where child in (select id from gone)
            and (parent in (select id from gone) or exists (select from job where job.id = job_edge.parent))
        group by child
    ),
    clock as materialized (
        select lane, priority, turn_now(lane, priority) as turn
        from (select distinct lane, priority from gone) as lanes
    ),
    again as (
        insert into job (id, key, kind, lane, priority, state, n_blockers, max_attempts, limit_s, subject, affinity, megapixels,
            task, created_at, turn)
        select gone.id, key, kind, gone.lane, gone.priority, case when blockers.n > 0 then 'waiting' else 'ready' end,
            coalesce(blockers.n, 0), max_attempts, limit_s, subject, affinity, megapixels, task::text, created_at,
            clock.turn + row_number() over (partition by gone.lane, gone.priority order by gone.id) - 1
        from gone
        join clock on clock.lane = gone.lane and clock.priority = gone.priority
        left join blockers on blockers.child = gone.id
        returning id
    )
    select array_agg(id order by id) into revived from again;

    perform from job where id in (select child from job_edge where parent = any(revived)) order by id for update;
    with more as (
        select child, count(*)::int as n from job_edge where parent = any(revived) and child <> all(revived) group by child
    )
    update job set n_blockers = n_blockers + more.n, state = 'waiting'
    from more
    where job.id = more.child and job.state in ('waiting', 'ready');
    return query select unnest(revived);
end
$$;
