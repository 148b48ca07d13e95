-- What attempts leave behind: why they ended, checkpoints that the next one goes on from, curves.

alter table attempt add column cause text check (cause in
    ('task', 'machine', 'memory', 'signal', 'exit', 'pipe', 'deadline', 'lost', 'order'));
comment on column attempt.cause is 'Why it did not end well: the task''s fault; the machine''s, as the task says; memory ran out; its process was killed by a signal, exited, or broke the pipe; it took longer than it may; its worker died; it was told to end. error has the words.';
alter table attempt add column resumed_after bigint;
comment on column attempt.resumed_after is 'The step after which it went on from a checkpoint; null: it began at the beginning.';

alter table job add column n_oom smallint not null default 0;
comment on column job.n_oom is 'How many of its attempts ran out of memory since it became ready: the second ends it.';

create table checkpoint (
    key bytea not null check (length(key) = 32),
    step bigint not null,
    artifact bytea not null references artifact,
    meta jsonb not null,
    lease bigint not null,
    made_at timestamptz not null default now(),
    primary key (key, step)
);
create index checkpoint_by_artifact on checkpoint (artifact);
comment on table checkpoint is 'What attempts have saved, for the next one to go on from: the highest step is the newest. Gone when the job is done.';
comment on column checkpoint.key is 'The job''s key.';
comment on column checkpoint.meta is 'What the task wants to know when it goes on from there.';
comment on column checkpoint.lease is 'The attempt that saved it.';

create table curve (
    key bytea not null check (length(key) = 32),
    name text not null,
    step bigint not null,
    value double precision,
    lease bigint not null,
    primary key (key, name, step)
);
comment on table curve is 'Numbers that tasks report while they run: a loss after each step, say.';
comment on column curve.key is 'The job''s key.';
comment on column curve.value is 'Null where it is not a finite number.';
comment on column curve.lease is 'The attempt that reported it. One that goes on from a checkpoint replaces what came after that.';

create view curve_point as
select job_key.job_id, curve.name, curve.step, curve.value, curve.lease, encode(curve.key, 'hex') as key
from curve join job_key on job_key.key = curve.key;
comment on view curve_point is 'Curves by job.';
