-- Schedules and their firings, what the last prune has counted, one measurement of the queue for all scrapers.

create table schedule (
    id int generated always as identity primary key,
    name text not null check (length(name) between 1 and 100),
    cron text not null,
    zone text not null,
    missed text not null check (missed in ('skip', 'once', 'all')),
    action jsonb not null,
    paused boolean not null default false,
    due_at timestamptz,
    created_at timestamptz not null default now(),
    removed_at timestamptz
);
create unique index schedule_by_name on schedule (name) where removed_at is null;
create index schedule_due on schedule (due_at) where removed_at is null and not paused;
comment on table schedule is 'What is to be done again and again: a cron line in a time zone, and an action.';
comment on column schedule.missed is 'What happens to firings that came while no worker lived or the schedule was paused: none, the last one, all.';
comment on column schedule.action is '{"do": "enqueue", "file": …, "base": …, "text": …}: a sweep file as it was when the schedule was made.';
comment on column schedule.due_at is 'The first time that has no firing yet; null if none will come.';

create sequence firing_lease_seq;

create table firing (
    schedule_id int not null references schedule,
    due_at timestamptz not null,
    by_hand boolean not null default false,
    state text not null check (state in ('due', 'running', 'done', 'failed', 'missed')),
    n_missed int not null default 0,
    n_attempts int not null default 0,
    run_at timestamptz not null default now(),
    lease bigint,
    holder uuid,
    host text,
    held_until timestamptz,
    lacking uuid[] not null default '{}',
    lacked_at timestamptz,
    error text,
    result jsonb,
    started_at timestamptz,
    ended_at timestamptz,
    primary key (schedule_id, due_at),
    constraint a_running_firing_is_held check (
        (state = 'running') = (lease is not null)
        and (lease is null) = (holder is null)
        and (lease is null) = (held_until is null)
    ),
    constraint an_ended_firing_has_an_end check ((state in ('done', 'failed', 'missed')) = (ended_at is not null)),
    constraint a_failed_firing_says_why check ((state in ('failed', 'missed')) <= (error is not null))
);
create index firing_open on firing (run_at) where state in ('due', 'running');
comment on table firing is 'Each time that a schedule came due: one row, so it is done once, however many workers look.';
comment on column firing.n_missed is 'Times before it that passed without a firing of their own.';
comment on column firing.lease is 'The right to end it; a write that names another one changes nothing.';
comment on column firing.lacking is 'Workers that looked and do not have the action''s folder.';
comment on column firing.result is 'What the action said: of an enqueueing what is new, and what was known.';

create table queue_gauge (
    only_row boolean primary key default true check (only_row),
    taken_at timestamptz not null,
    took_s double precision not null,
    next_at timestamptz not null,
    body jsonb not null
);
comment on table queue_gauge is 'The unfinished jobs, counted now and then by whichever worker is asked for metrics first.';
insert into queue_gauge (taken_at, took_s, next_at, body) values ('-infinity', 0, '-infinity', '{}');

create table pruned (
    sweep_id int not null references sweep,
    kind text not null,
    state text not null,
    n bigint not null check (n > 0),
    primary key (sweep_id, kind, state)
);
comment on table pruned is 'How many ended jobs of each sweep `jobctl db prune` has taken out of job_history.';

-- What ended lately, and what ended badly, without reading the months before.
create index job_history_by_end on job_history using brin (ended_at) with (autosummarize = on, pages_per_range = 32);
create index job_history_not_done on job_history (id) where state <> 'done';

create or replace view sweep_status as
select
    sweep.slug as sweep,
    case
        when sweep.cancelled_at is not null then 'cancelled'
        when sweep.paused then 'paused'
        when exists (select from sweep_job join job on job.id = sweep_job.job_id where sweep_job.sweep_id = sweep.id) then 'active'
        else 'ended'
    end as state,
    sweep.enqueued_at,
    coalesce(counts.of_state, '{}') as jobs
from sweep
left join lateral (
    select jsonb_object_agg(state, n) as of_state
    from (
        select state, sum(n)::bigint as n
        from (
            select every_job.state, count(*) as n
            from sweep_job join every_job on every_job.id = sweep_job.job_id
            where sweep_job.sweep_id = sweep.id
            group by every_job.state
            union all
            select state, n from pruned where sweep_id = sweep.id
        ) as there_and_pruned
        group by state
    ) as by_state
) as counts on true;
comment on view sweep_status is 'Each sweep with its jobs counted by state, those that were pruned among them.';
