-- Months that are there are looked for without a lock. One that is missing is made standing alone and then attached, which
-- keeps nobody from reading or writing the others; only the rest partition is locked, and not waited for longer than a moment.
create or replace function ensure_months(ahead int) returns void language plpgsql security definer
set search_path = public, pg_temp set lock_timeout = '2s' as $$
declare
    missing record;
    in_rest boolean;
begin
    for missing in
        select parent, clock, parent || to_char(month, '"_"YYYY"_"MM') as part,
            month at time zone 'utc' as begins, (month + interval '1 month') at time zone 'utc' as ends
        from (values ('job_history', 'ended_at'), ('score', 'scored_at')) as tables (parent, clock),
            date_trunc('month', now() at time zone 'utc') as this,
            generate_series(this, this + make_interval(months => least(ahead, 36)), interval '1 month') as month
        where to_regclass(parent || to_char(month, '"_"YYYY"_"MM')) is null
        order by parent, month
    loop
        -- Somebody else makes them at the moment.
        if not pg_try_advisory_xact_lock(hashtext('jobctl months')) then
            return;
        end if;
        continue when to_regclass(missing.part) is not null;
        begin
            -- The rest partition already holds rows of that month: they stay there, nothing is lost.
            execute format('select exists (select from %I where %I >= $1 and %2$I < $2)', missing.parent || '_rest', missing.clock)
                into in_rest using missing.begins, missing.ends;
            continue when in_rest;
            execute format('create table %I (like %I including all)', missing.part, missing.parent);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', missing.parent, missing.part,
                missing.begins, missing.ends);
        exception
            when check_violation then
                null;
            when lock_not_available then
                -- Somebody reads the rest partition and goes on reading. A later command makes the month: there is time.
                return;
        end;
    end loop;
end
$$;
