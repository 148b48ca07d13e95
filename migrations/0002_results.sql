-- The results: what a sweep compares, the images, their scores, and views that people query.

create table source (
    sweep_id int not null references sweep on delete cascade,
    idx int not null,
    name text not null,
    model text,
    ladder text,
    ladder_of text,
    damage text,
    parameter text,
    level double precision,
    severity double precision,
    set_key bytea,
    primary key (sweep_id, idx)
);
comment on table source is 'A set of images that is compared with others as one.';
comment on column source.model is 'The model that its pictures stand for.';
comment on column source.ladder is 'The ladder of known damage that it is a rung of; level and severity say which rung.';
comment on column source.set_key is 'Its set of images in set_score.';

create table cell (
    sweep_id int not null,
    idx int not null,
    source_idx int not null,
    sample text not null,
    picture bytea not null,
    reference bytea not null default '',
    primary key (sweep_id, picture, idx)
);
comment on table cell is 'One point of a sweep: a sample of a source, and the key of its picture.';
comment on column cell.reference is 'The picture that it is compared with; empty if none.';
comment on column cell.sample is 'What pairs it with other sources'' images.';

create table source_file (
    path bytea primary key,
    bytes bigint not null,
    mtime_ns bigint not null,
    content bytea not null,
    width int,
    height int,
    seen_at timestamptz not null default now()
);
create index source_file_by_content on source_file (content);
comment on table source_file is 'Files that sweeps have read: where their contents lie, and their hashes, so that an unchanged file is not read again.';
comment on column source_file.mtime_ns is '-1: it had been written just before, and is read again next time.';

create table artifact (
    hash bytea primary key check (length(hash) = 32),
    bytes bigint not null,
    media text not null,
    created_at timestamptz not null default now()
);
comment on table artifact is 'Files in the store, named by the BLAKE3 hash of their bytes.';

create table image (
    id bigint generated always as identity primary key,
    picture bytea not null unique check (length(picture) = 32),
    content bytea not null,
    recipe jsonb not null,
    pixels bytea not null,
    width int not null,
    height int not null,
    preview bytea references artifact,
    made_at timestamptz not null default now()
);
comment on table image is 'Pictures that have been made and scored.';
comment on column image.picture is 'The hash of its recipe.';
comment on column image.content is 'The hash of the file that it comes from.';
comment on column image.pixels is 'The BLAKE3 hash of its RGB bytes.';

create table score (
    image_id bigint not null references image,
    metric text not null,
    variant text not null,
    version int not null,
    reference bytea not null default '',
    value double precision,
    why text,
    note text,
    job_id bigint not null,
    scored_at timestamptz not null default now(),
    primary key (image_id, metric, variant, version, reference, scored_at),
    constraint an_undefined_score_says_why check ((value is null) = (why is not null)),
    constraint a_score_is_a_number check (value <> 'NaN')
) partition by range (scored_at);
create table score_rest partition of score default;
comment on table score is 'One metric of one image, by month.';
comment on column score.reference is 'The picture that it was compared with; empty for metrics that need none.';
comment on column score.version is 'Rises when the metric''s definition changes.';

create table set_score (
    set_key bytea not null,
    metric text not null,
    variant text not null,
    version int not null,
    value double precision,
    why text,
    n int not null,
    job_id bigint not null,
    scored_at timestamptz not null default now(),
    primary key (set_key, metric, variant, version),
    constraint an_undefined_score_says_why check ((value is null) = (why is not null))
);
comment on table set_score is 'One metric of one set of images, such as the pooled compression ratio.';
comment on column set_score.n is 'How many images it was computed over.';

create view metric_history as
select
    score.scored_at,
    sweep.slug as sweep,
    source.name as source,
    source.model,
    cell.sample,
    source.damage,
    source.level,
    score.metric,
    score.variant,
    score.version,
    score.value,
    score.why,
    score.note,
    image.width,
    image.height,
    encode(image.picture, 'hex') as picture,
    encode(image.content, 'hex') as content,
    score.job_id
from score
join image on image.id = score.image_id
join cell on cell.picture = image.picture
join sweep on sweep.id = cell.sweep_id
join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx;
comment on view metric_history is 'Every score with the sweep, source and sample that it belongs to: one row for each sweep that has the image.';

create view leaderboard as
select
    sweep,
    source,
    model,
    metric,
    variant,
    version,
    count(value) as n,
    count(*) - count(value) as n_undefined,
    avg(value) as mean,
    stddev_samp(value) as sd,
    percentile_cont(0.5) within group (order by value) as median,
    min(value) as lowest,
    max(value) as highest
from metric_history
group by sweep, source, model, metric, variant, version;
comment on view leaderboard is 'Mean, spread and count of each metric for each source of each sweep.';

create view set_score_history as
select set_score.scored_at, sweep.slug as sweep, source.name as source, source.model,
    set_score.metric, set_score.variant, set_score.version, set_score.value, set_score.why, set_score.n
from set_score
join source on source.set_key = set_score.set_key
join sweep on sweep.id = source.sweep_id;
comment on view set_score_history is 'Scores of whole sets.';

create view sweep_status as
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
        select every_job.state, count(*) as n
        from sweep_job join every_job on every_job.id = sweep_job.job_id
        where sweep_job.sweep_id = sweep.id
        group by every_job.state
    ) as by_state
) as counts on true;
comment on view sweep_status is 'Each sweep with its jobs counted by state.';

create view failure as
select sweep.slug as sweep, ended.id as job, ended.kind, ended.state, source.name as source, cell.sample, ended.error, ended.n_attempts, ended.ended_at
from job_history as ended
join sweep_job on sweep_job.job_id = ended.id
join sweep on sweep.id = sweep_job.sweep_id
left join cell on cell.sweep_id = sweep.id and cell.picture = ended.subject
left join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
where ended.state <> 'done';
comment on view failure is 'What ended without a result, and why.';
