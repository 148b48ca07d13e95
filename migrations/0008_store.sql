-- The store and who may do what: pictures that were uploaded, files that nothing names, rights of workers.

create table sweep_file (
    sweep_id int not null references sweep on delete cascade,
    artifact bytea not null references artifact,
    primary key (sweep_id, artifact)
);
create index sweep_file_by_artifact on sweep_file (artifact);
comment on table sweep_file is 'Pictures of a sweep that were put into the store, for workers that do not see the disk they came from.';

create table stray (
    hash bytea primary key check (length(hash) = 32),
    bytes bigint not null,
    found_at timestamptz not null default now()
);
comment on table stray is 'Files in the store that no artifact is of, and when `jobctl db prune` first saw them: what has just been stored is not named yet, what stays so is swept up.';

create index image_by_preview on image (preview);
create index job_output_by_artifact on job_output (artifact);
create index generation_by_artifact on generation (artifact);
create index reconstruction_by_artifact on reconstruction (artifact);

-- Whatever refers to artifacts names them, tables of later migrations too.
create function artifacts_in_use(hashes bytea[]) returns setof bytea language plpgsql stable as $$
declare
    reference record;
begin
    for reference in
        select constraint_.conrelid::regclass as place, attname as name
        from pg_constraint as constraint_
        join pg_attribute on attrelid = constraint_.conrelid and attnum = constraint_.conkey[1]
        where constraint_.contype = 'f' and constraint_.confrelid = 'artifact'::regclass
    loop
        return query execute format('select %1$I from %2$s where %1$I = any($1)', reference.name, reference.place) using hashes;
    end loop;
end
$$;
comment on function artifacts_in_use is 'Those of the hashes that a row of any table names.';

-- A worker finds that what it needs is gone. It may not rewrite history; this does it for it, and only this.
create function make_again(makers bigint[]) returns setof bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare
    revived bigint[];
begin
    with gone as (
        delete from job_history
        where job_history.id = any(makers) and state = 'done' and kind in ('encode', 'denoise', 'decode', 'reconstruct')
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
    again as (
        insert into job (id, key, kind, lane, priority, state, n_blockers, max_attempts, limit_s, subject, affinity, megapixels, task, created_at)
        select id, key, kind, lane, priority, case when blockers.n > 0 then 'waiting' else 'ready' end,
            coalesce(blockers.n, 0), max_attempts, limit_s, subject, affinity, megapixels, task::text, created_at
        from gone left join blockers on blockers.child = gone.id
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
comment on function make_again is 'Makes done jobs ready again whose artifacts are gone; jobs that wait for them wait again. Returns which.';

-- Workers may call it, but make no tables; so it works with its owner's rights, and within bounds.
create or replace function ensure_months(ahead int) returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    parent text;
    month date;
    part text;
begin
    perform pg_advisory_xact_lock(hashtext('jobctl months'));
    foreach parent in array array['job_history', 'score'] loop
        for month in select generate_series(date_trunc('month', now() at time zone 'utc'), (date_trunc('month', now() at time zone 'utc') + make_interval(months => least(ahead, 36))), interval '1 month')::date loop
            part := parent || to_char(month, '"_"YYYY"_"MM');
            if to_regclass(part) is null then
                begin
                    execute format('create table %I partition of %I for values from (%L) to (%L)', part, parent,
                        month::timestamp at time zone 'utc', (month + interval '1 month')::timestamp at time zone 'utc');
                exception when check_violation then
                    -- The rest partition already holds rows of that month: they stay there, nothing is lost.
                    null;
                end;
            end if;
        end loop;
    end loop;
end
$$;

revoke execute on function make_again(bigint[]), ensure_months(int) from public;
