-- The queue: sweeps, jobs, the graph between jobs, workers and attempts.

create table sweep (
    id int generated always as identity primary key,
    slug text not null unique,
    name text not null,
    plan_key bytea not null unique check (length(plan_key) = 32),
    definition text not null,
    metrics jsonb not null,
    on_failure text not null check (on_failure in ('continue', 'stop')),
    priority smallint not null,
    paused boolean not null default false,
    cancelled_at timestamptz,
    program text not null,
    enqueued_at timestamptz not null default now()
);
comment on table sweep is 'One enqueued sweep file. The same plan is the same sweep: enqueueing it again adds nothing.';
comment on column sweep.slug is 'What people call it: the name and the first 8 digits of plan_key.';
comment on column sweep.definition is 'The sweep file as it was enqueued.';
comment on column sweep.metrics is 'What it asks for: metric, variant and version.';

create table worker (
    id uuid primary key,
    host text not null,
    pid int not null,
    program text not null,
    machine text not null,
    n_slots int not null,
    started_at timestamptz not null default now(),
    beat_at timestamptz not null default now(),
    stopped_at timestamptz
) with (fillfactor = 60);
comment on table worker is 'One start of `jobctl worker`: ids are never used twice. A stale beat_at gives its jobs back.';

create sequence job_id_seq;
create sequence lease_seq;

create table job_key (
    key bytea primary key check (length(key) = 32),
    job_id bigint not null
);
comment on table job_key is 'Equal work has an equal key and is one job, for ever: keys outlive the partitions of job_history.';

create table job (
    id bigint primary key,
    key bytea not null,
    kind text not null,
    lane smallint not null,
    priority smallint not null,
    state text not null,
    held boolean not null default false,
    run_at timestamptz not null default now(),
    n_blockers int not null default 0 check (n_blockers >= 0),
    n_attempts int not null default 0,
    max_attempts int not null default 3,
    limit_s int not null,
    subject bytea,
    affinity bigint,
    megapixels real not null default 0,
    task text not null,
    lease bigint,
    worker_id uuid references worker,
    slot text,
    started_at timestamptz,
    deadline_at timestamptz,
    cancel_requested_at timestamptz,
    progress jsonb,
    created_at timestamptz not null default now(),
    constraint only_unfinished_jobs_live_here check (state in ('waiting', 'ready', 'running')),
    constraint a_running_job_has_a_lease check (
        (state = 'running') = (lease is not null)
        and (lease is null) = (worker_id is null)
        and (lease is null) = (started_at is null)
        and (lease is null) = (deadline_at is null)
    ),
    constraint a_waiting_job_has_blockers check ((state = 'waiting') = (n_blockers > 0))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01);
comment on table job is 'Jobs that have not ended. What ends moves to job_history in the same transaction.';
comment on column job.lane is '0 needs no device, 1 needs CUDA.';
comment on column job.held is 'Every sweep that wants it is paused.';
comment on column job.n_blockers is 'Parents that have not ended yet.';
comment on column job.limit_s is 'An attempt that takes longer than this many seconds is ended.';
comment on column job.subject is 'The picture that it is about: cell.picture.';
comment on column job.task is 'JSON, as text: the worker that claims it parses it. job_history has it as jsonb.';
comment on column job.affinity is 'What a slot should have loaded already, if it can be helped: the first 8 bytes of a hash.';
comment on column job.lease is 'The right to write its result; a write that names another lease changes nothing.';
create index job_claim on job (lane, priority desc, run_at, id) where state = 'ready' and not held;
create index job_claim_loaded on job (lane, affinity, priority desc, run_at, id) where state = 'ready' and not held;
create index job_of_worker on job (worker_id) where state = 'running';

create table job_history (
    id bigint not null,
    key bytea not null,
    kind text not null,
    lane smallint not null,
    priority smallint not null,
    state text not null,
    n_attempts int not null,
    max_attempts int not null,
    limit_s int not null,
    subject bytea,
    affinity bigint,
    megapixels real not null,
    task jsonb not null,
    error text,
    created_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz not null default now(),
    primary key (id, ended_at),
    constraint only_finished_jobs_live_here check (state in ('done', 'failed', 'cancelled', 'skipped')),
    constraint failure_says_why check ((state in ('failed', 'skipped')) <= (error is not null))
) partition by range (ended_at);
create table job_history_rest partition of job_history default;
create index job_history_by_id on job_history (id);
comment on table job_history is 'Jobs that have ended, by month. `retry` moves one back to job.';

create table job_edge (
    parent bigint not null,
    child bigint not null,
    needs boolean not null,
    primary key (parent, child)
);
create index job_edge_by_child on job_edge (child);
comment on table job_edge is 'The graph. Kept after the parent has ended, so that retrying it revives its children.';
comment on column job_edge.needs is 'True: without the parent''s result the child is skipped. False: it only waits for the parent''s end.';

create table sweep_job (
    sweep_id int not null,
    job_id bigint not null,
    primary key (sweep_id, job_id)
);
create index sweep_job_by_job on sweep_job (job_id);
comment on table sweep_job is 'Which sweeps want which jobs. Sweeps share equal work.';

create table attempt (
    lease bigint primary key,
    job_id bigint not null,
    number int not null,
    worker_id uuid not null references worker,
    slot text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    outcome text check (outcome in ('done', 'failed', 'retried', 'lost', 'released', 'cancelled')),
    error text,
    constraint an_ended_attempt_has_an_outcome check ((ended_at is null) = (outcome is null))
);
create index attempt_by_job on attempt (job_id);
comment on table attempt is 'Every try of every job: where, how long, how it ended.';
comment on column attempt.outcome is 'done; failed for good; retried later; lost with its worker; released by a draining worker; cancelled.';

create table attempt_log (
    lease bigint not null references attempt on delete cascade,
    seq int not null,
    at timestamptz not null default now(),
    line text not null,
    primary key (lease, seq)
);
comment on table attempt_log is 'What an attempt printed, line by line.';

create view every_job as
select id, key, kind, lane, priority, case when held and state = 'ready' then 'held' else state end as state, n_attempts, max_attempts,
    subject, task::jsonb as task, null::text as error, created_at, started_at, null::timestamptz as ended_at, run_at, n_blockers, worker_id, slot, progress
from job
union all
select id, key, kind, lane, priority, state, n_attempts, max_attempts,
    subject, task, error, created_at, started_at, ended_at, null, 0, null, null, null
from job_history;
comment on view every_job is 'All jobs, unfinished and ended.';
