-- What reports found, night by night, and the mails that tell of it: an outbox, so that each is sent once.

create table report_run (
    id bigint generated always as identity primary key,
    name text not null check (length(name) between 1 and 100),
    at timestamptz not null,
    good boolean not null,
    found jsonb not null,
    definition text not null,
    program text not null,
    schedule_id int,
    due_at timestamptz,
    accepted_at timestamptz,
    made_at timestamptz not null default now(),
    unique (schedule_id, due_at),
    constraint a_firing_is_named_whole check ((schedule_id is null) = (due_at is null))
);
create index report_run_by_name on report_run (name, at);
comment on table report_run is 'What a report found at a moment. The last good one is what the next is compared with.';
comment on column report_run.at is 'The moment that it tells of: nothing that was written later is in it.';
comment on column report_run.good is 'Nothing got worse beyond noise and nothing broke; or somebody has accepted it all the same.';
comment on column report_run.found is 'The analysed value: means, intervals, changes, what they may be due to.';

create sequence mail_lease_seq;

create table mail (
    id uuid primary key,
    report_run_id bigint references report_run,
    sender text not null,
    recipients text[] not null check (cardinality(recipients) > 0),
    pending text[] not null,
    refused text[] not null default '{}',
    subject text not null,
    message bytea references artifact,
    state text not null default 'waiting' check (state in ('waiting', 'sending', 'handing', 'sent', 'failed', 'doubtful')),
    n_attempts int not null default 0,
    run_at timestamptz not null default now(),
    lease bigint,
    host text,
    held_until timestamptz,
    error text,
    reply text,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint a_mail_under_way_is_held check (
        (state in ('sending', 'handing')) = (held_until is not null)
        and (state in ('sending', 'handing')) <= (lease is not null)
    ),
    constraint an_ended_mail_has_an_end check ((state in ('sent', 'failed', 'doubtful')) = (ended_at is not null)),
    constraint a_mail_that_was_not_sent_says_why check ((state in ('failed', 'doubtful')) <= (error is not null)),
    constraint a_mail_has_a_message_until_it_is_sent check (message is not null or state = 'sent'),
    constraint a_sent_mail_is_owed_to_nobody check ((state = 'sent') <= (cardinality(pending) = 0))
);
create index mail_open on mail (run_at) where state in ('waiting', 'sending', 'handing');
create index mail_by_message on mail (message);
create index mail_by_report_run on mail (report_run_id);
comment on table mail is 'The outbox. A row is written with the report that it tells of; its id makes the Message-ID, the same at every try.';
comment on column mail.pending is 'Recipients whose server has not taken it yet.';
comment on column mail.refused is 'Recipients that the server will never take.';
comment on column mail.message is 'The whole message, made once; `jobctl db prune` forgets those that were sent a month ago.';
comment on column mail.state is
    'handing: the server may have the message at any moment. Whoever dies then leaves it doubtful: it is not sent again unless somebody says so.';
comment on column mail.lease is 'The right to write how it went; a write that names another one changes nothing.';
