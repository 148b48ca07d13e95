-- Asking machines to judge and to caption: what a sweep may spend, every request and its answer, and how fast they go out.

create table asking (
    id int generated always as identity primary key,
    sweep_id int not null references sweep on delete cascade,
    name text not null,
    kind text not null check (kind in ('judge', 'caption')),
    model text not null,
    requests_per_minute double precision check (requests_per_minute > 0),
    tokens_per_minute double precision check (tokens_per_minute > 0),
    budget double precision check (budget >= 0),
    input_price double precision check (input_price >= 0),
    output_price double precision check (output_price >= 0),
    spent double precision not null default 0,
    constraint a_sweeps_blocks_have_names unique (sweep_id, name),
    constraint prices_come_in_pairs check ((input_price is null) = (output_price is null)),
    constraint a_budget_needs_prices check (budget is null or input_price is not null)
) with (fillfactor = 60);
comment on table asking is 'One [[judge]] or [[caption]] block of a sweep: how fast it may ask, and for how much.';
comment on column asking.budget is 'US dollars; null where it costs nothing.';
comment on column asking.input_price is 'US dollars for 10^6 tokens that are read; null where nobody knows.';
comment on column asking.spent is 'US dollars: the cost of what was answered, and the most that open and lost requests may cost.';

create table asking_job (
    asking_id int not null references asking on delete cascade,
    key bytea not null,
    primary key (asking_id, key)
);
create index asking_job_by_key on asking_job (key);
comment on table asking_job is 'Which blocks want which jobs, by the jobs'' keys. Whoever wants a job first pays for it.';

create table asked (
    id bigint generated always as identity primary key,
    key bytea not null check (length(key) = 32),
    nth smallint not null check (nth >= 0),
    asking_id int references asking on delete set null,
    lease bigint,
    model text not null,
    endpoint text not null,
    prompt bytea not null check (length(prompt) = 32),
    estimate double precision not null default 0,
    asked_at timestamptz not null default now(),
    outcome text not null default 'open',
    ended_at timestamptz,
    error text,
    raw text,
    content text,
    refusal text,
    finish text,
    snapshot text,
    tokens_in int,
    tokens_out int,
    cost double precision,
    constraint an_outcome_is_one_of_five check (outcome in ('open', 'answered', 'surplus', 'refused', 'lost')),
    constraint what_ended_has_an_end check ((outcome = 'open') = (ended_at is null)),
    constraint an_answer_has_its_text check (outcome not in ('answered', 'surplus') or (raw is not null and content is not null)),
    constraint what_went_wrong_is_said check (outcome not in ('refused', 'lost') or error is not null)
);
-- A request is answered once.
create unique index asked_answer on asked (key, nth) where outcome = 'answered';
create index asked_by_key on asked (key);
create index asked_by_asking on asked (asking_id);
comment on table asked is 'Every request to a judge or captioner: written before it goes out, ended when its answer is stored.';
comment on column asked.key is 'The key of the job that it is for.';
comment on column asked.nth is '0: the first question of the job; 1: asked again because the answer could not be understood.';
comment on column asked.lease is 'The attempt that asked; null for answers that came in a batch file.';
comment on column asked.prompt is 'The hash of the texts that were sent.';
comment on column asked.estimate is 'The most that it may cost, in US dollars: reserved until its cost is known.';
comment on column asked.outcome is 'open: under way; answered; surplus: answered after another attempt had been; refused: the endpoint would not answer, and charges nothing; lost: nobody knows what became of it.';
comment on column asked.raw is 'The answer''s body as it came, its first MiB.';
comment on column asked.snapshot is 'The exact version of the model, as the endpoint says.';
comment on column asked.cost is 'US dollars, by the endpoint''s own count of tokens; null where prices or counts are not known.';

create table ask_pace (
    endpoint text not null,
    model text not null,
    requests_at timestamptz not null default '-infinity',
    tokens_at timestamptz not null default '-infinity',
    closed_until timestamptz not null default '-infinity',
    primary key (endpoint, model)
) with (fillfactor = 60);
comment on table ask_pace is 'When the next request may go to an endpoint''s model, over all workers.';
comment on column ask_pace.requests_at is 'Each request moves it on by a minute''s share of requests.';
comment on column ask_pace.tokens_at is 'Each request moves it on by its tokens'' share of a minute.';
comment on column ask_pace.closed_until is 'The endpoint has asked to be left alone until then.';

create table caption (
    key bytea primary key check (length(key) = 32),
    picture bytea not null check (length(picture) = 32),
    text text not null check (text <> ''),
    model text not null,
    snapshot text,
    job_id bigint not null,
    written_at timestamptz not null default now()
);
create index caption_by_picture on caption (picture);
comment on table caption is 'What captioners have written of pictures.';
comment on column caption.key is 'The key of the job that asked.';
comment on column caption.picture is 'cell.picture and image.picture.';

-- What asks machines is done by agents themselves: by those that have an endpoint, and in no slot.
create or replace function lane_fits(lane lane, n_gpus int, gpu_model text, gpu_memory_gib int, labels text[]) returns boolean
language sql immutable as $$
    select lane.n_gpus <= $2
        and (lane.gpu_model = '' or strpos(lower($3), lane.gpu_model) > 0)
        and lane.gpu_memory_gib <= $4
        and lane.labels <@ $5
        and ('@asks' = any (lane.labels)) = ('@asks' = any ($5))
$$;
comment on column lane.labels is 'The worker must have all of them; sorted. @asks: its agent asks machines; @asks:URL: that endpoint.';

create function own_labels(labels text[]) returns text[] language sql immutable as $$
    select coalesce(array_agg(label order by nth), '{}')
    from unnest(labels) with ordinality as said (label, nth)
    where label not like '@%'
$$;
comment on function own_labels is 'The labels that people gave, without those that say what an agent asks.';

create or replace view slot as
select worker.id as worker_id, worker.host, worker_device.slot, count(*)::int as n_gpus,
    case when min(worker_device.model) = max(worker_device.model) then min(worker_device.model) else '' end as gpu_model,
    min(worker_device.memory_gib) as gpu_memory_gib, own_labels(worker.labels) as labels, worker.beat_at
from worker join worker_device on worker_device.worker_id = worker.id
where worker.stopped_at is null
group by worker.id, worker_device.slot
union all
select id, host, 'cpu', 0, '', 0, own_labels(labels), beat_at
from worker
where stopped_at is null
union all
select id, host, 'ask', 0, '', 0, labels, beat_at
from worker
where stopped_at is null and '@asks' = any (labels);
comment on view slot is 'What the slots of workers that have not stopped have to offer. Every worker can do what needs no GPU; `ask` is an agent that asks machines.';

create view asking_status as
select sweep.slug as sweep, asking.name, asking.kind, asking.model, asking.budget, asking.spent,
    count(asked.id) filter (where outcome = 'answered') as n_answered,
    count(asked.id) filter (where outcome = 'answered' and nth > 0) as n_again,
    count(asked.id) filter (where outcome = 'surplus') as n_surplus,
    count(asked.id) filter (where outcome = 'refused') as n_refused,
    count(asked.id) filter (where outcome = 'lost') as n_lost,
    count(asked.id) filter (where outcome = 'open') as n_open,
    coalesce(sum(asked.tokens_in), 0)::bigint as tokens_in,
    coalesce(sum(asked.tokens_out), 0)::bigint as tokens_out,
    coalesce(sum(asked.cost), 0) as cost
from asking
join sweep on sweep.id = asking.sweep_id
left join asked on asked.asking_id = asking.id
group by sweep.slug, asking.id;
comment on view asking_status is 'What each [[judge]] and [[caption]] block has asked, and what that cost.';
comment on column asking_status.n_again is 'Answers to questions that were asked a second time, because the first answer could not be understood.';
