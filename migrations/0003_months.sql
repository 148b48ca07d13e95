-- Partitions by month, made ahead by a function that every worker calls when it starts, and the reader's role.

create function ensure_months(ahead int) returns void language plpgsql as $$
declare
    parent text;
    month date;
    part text;
begin
    perform pg_advisory_xact_lock(hashtext('jobctl months'));
    foreach parent in array array['job_history', 'score'] loop
        for month in select generate_series(date_trunc('month', now() at time zone 'utc'), (date_trunc('month', now() at time zone 'utc') + make_interval(months => ahead)), interval '1 month')::date loop
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
comment on function ensure_months is 'Makes the partitions of this month and of the next `ahead` months. Rows that fit none go to the rest partition.';

select ensure_months(3);

do $$
begin
    if not exists (select from pg_roles where rolname = 'jobctl_reader') then
        create role jobctl_reader nologin;
    end if;
    execute 'grant usage on schema public to jobctl_reader';
    execute 'grant select on all tables in schema public to jobctl_reader';
    execute 'alter default privileges in schema public grant select on tables to jobctl_reader';
exception when insufficient_privilege or duplicate_object or unique_violation then
    raise notice 'no role jobctl_reader: the owner of this database may not create roles';
end
$$;
