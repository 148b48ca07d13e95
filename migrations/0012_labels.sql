-- What people and machine judges say of pictures: ratings, choices between two, and the files that they come from.

create table label_import (
    id int generated always as identity primary key,
    content bytea not null unique check (length(content) = 32),
    name text not null,
    mapping jsonb not null,
    n_rows int not null,
    imported_at timestamptz not null default now()
);
comment on table label_import is 'Files of labels that were read. The same file with the same mapping is read once.';
comment on column label_import.content is 'The hash of the file''s bytes, of the mapping and of what else decides what its rows mean.';
comment on column label_import.mapping is 'Which column was taken for what.';

create table rating (
    key bytea primary key check (length(key) = 32),
    picture bytea not null check (length(picture) = 32),
    x int,
    y int,
    width int,
    height int,
    aspect text not null,
    judge text not null,
    rater text not null,
    variant text not null default '',
    value double precision not null,
    low double precision,
    high double precision,
    attention boolean,
    import_id int references label_import on delete cascade,
    job_id bigint,
    said_at timestamptz not null default now(),
    constraint a_judge_is_a_person_or_a_machine check (judge in ('human', 'machine')),
    constraint a_rating_is_a_number check (abs(value) < 'Infinity'),
    constraint a_scale_has_both_ends check ((low is null) = (high is null) and (low is null or low < high)),
    constraint a_rating_is_on_its_scale check (low is null or value between low and high),
    constraint a_box_has_four_numbers check (
        num_nulls(x, y, width, height) = 4
        or num_nulls(x, y, width, height) = 0 and x >= 0 and y >= 0 and width > 0 and height > 0
    ),
    constraint a_rating_comes_from_a_file_or_a_job check (num_nonnulls(import_id, job_id) = 1)
);
create index rating_by_picture on rating (picture);
create index rating_by_import on rating (import_id);
comment on table rating is 'A number that a person or a machine gave a picture, or a part of it, on one aspect.';
comment on column rating.key is 'The hash of what was rated, on which aspect, by whom: the same rating twice is one row.';
comment on column rating.picture is 'cell.picture and image.picture of what was rated; of a patch, of the picture that it is a part of.';
comment on column rating.x is 'The rated patch in pixels of the picture; null: all of it.';
comment on column rating.rater is 'Who: a rater''s id, or the name of a model.';
comment on column rating.variant is 'Of a machine: which of its prompts, or which time it was asked.';
comment on column rating.low is 'The ends of the scale; null where they are not known.';
comment on column rating.attention is 'Null for an ordinary rating. Of an attention check: whether the rater passed it. Checks count in no statistic.';

create table verdict (
    key bytea primary key check (length(key) = 32),
    first bytea,
    second bytea,
    first_model text,
    second_model text,
    prompt text,
    x int,
    y int,
    width int,
    height int,
    aspect text not null,
    judge text not null,
    rater text not null,
    variant text not null default '',
    shown text not null,
    choice text not null,
    reason text not null default '',
    attention boolean,
    import_id int references label_import on delete cascade,
    job_id bigint,
    said_at timestamptz not null default now(),
    constraint a_judge_is_a_person_or_a_machine check (judge in ('human', 'machine')),
    constraint a_verdict_is_of_two_pictures_or_of_two_models check (
        num_nonnulls(first, second) = 2 and length(first) = 32 and length(second) = 32 and first <> second
            and num_nonnulls(first_model, second_model, prompt) = 0
        or num_nonnulls(first, second) = 0 and num_nonnulls(first_model, second_model, prompt) = 3
            and first_model <> second_model
    ),
    constraint an_order_is_known_or_not check (shown in ('first_first', 'second_first', 'unknown')),
    constraint a_choice_is_one_of_four check (choice in ('first', 'second', 'tie', 'invalid')),
    constraint a_box_has_four_numbers check (
        num_nulls(x, y, width, height) = 4
        or num_nulls(x, y, width, height) = 0 and x >= 0 and y >= 0 and width > 0 and height > 0
    ),
    constraint a_verdict_comes_from_a_file_or_a_job check (num_nonnulls(import_id, job_id) = 1)
);
create index verdict_by_first on verdict (first);
create index verdict_by_second on verdict (second);
create index verdict_by_import on verdict (import_id);
comment on table verdict is 'One answer of one judge to the question which of two is better on one aspect.';
comment on column verdict.key is 'The hash of what was asked of whom, and in which order: the same answer twice is one row.';
comment on column verdict.first is 'cell.picture of the pair''s first; null where models were compared and not pictures.';
comment on column verdict.x is 'The part of both that was shown, in pixels; null: all.';
comment on column verdict.shown is 'Which of the two the judge saw first.';
comment on column verdict.choice is 'Which is better: the pair''s first or second, wherever it was shown. Invalid: the answer says none of it; it counts as no vote.';
comment on column verdict.attention is 'Null for an ordinary question. Of an attention check: whether the rater passed it. Checks count in no statistic.';

create view rating_history as
select sweep.slug as sweep, source.name as source, source.model, cell.sample, rating.aspect, rating.judge, rating.rater, rating.variant,
    rating.value, rating.low, rating.high, rating.attention, rating.x, rating.y, rating.width, rating.height,
    encode(rating.picture, 'hex') as picture, label_import.name as file, rating.job_id, rating.said_at
from rating
join cell on cell.picture = rating.picture
join sweep on sweep.id = cell.sweep_id
join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
left join label_import on label_import.id = rating.import_id;
comment on view rating_history is 'Every rating with the sweep, source and sample of its picture: one row for each cell that has it.';

create view verdict_history as
select sweep.slug as sweep, first_source.name as first, second_source.name as second, first_cell.sample,
    verdict.aspect, verdict.judge, verdict.rater, verdict.variant, verdict.shown, verdict.choice, verdict.reason, verdict.attention,
    verdict.x, verdict.y, verdict.width, verdict.height, label_import.name as file, verdict.job_id, verdict.said_at
from verdict
join cell as first_cell on first_cell.picture = verdict.first
join cell as second_cell on second_cell.picture = verdict.second and second_cell.sweep_id = first_cell.sweep_id
join sweep on sweep.id = first_cell.sweep_id
join source as first_source on first_source.sweep_id = first_cell.sweep_id and first_source.idx = first_cell.source_idx
join source as second_source on second_source.sweep_id = second_cell.sweep_id and second_source.idx = second_cell.source_idx
left join label_import on label_import.id = verdict.import_id;
comment on view verdict_history is 'Every verdict on two pictures of one sweep, with their sources.';
