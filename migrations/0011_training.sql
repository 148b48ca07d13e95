-- Fine-tuning: which models a sweep trains, and what training them came to.

create table training (
    sweep_id int not null references sweep on delete cascade,
    idx int not null,
    name text not null,
    part text not null check (part in ('denoiser', 'vae')),
    base text not null,
    key bytea not null check (length(key) = 32),
    primary key (sweep_id, idx)
);
create index training_by_key on training (key);
comment on table training is 'The models that a sweep trains: one for each point of its [[finetune]] blocks.';
comment on column training.name is 'What the sweep calls it, such as `wlf` or `wlf bands=[1, 2, 2, 4]`.';
comment on column training.part is 'Which part of the model is trained.';
comment on column training.base is 'What it starts from, as the sweep names it: a package, or another of its models.';
comment on column training.key is 'The key of the job that trains it: its curves are in curve, the trained part in job_output.';

create table trained (
    key bytea primary key check (length(key) = 32),
    job_id bigint not null,
    n_pictures int not null,
    left_out jsonb not null,
    held_out double precision,
    made_at timestamptz not null default now()
);
comment on table trained is 'What a training job came to, by its key; the trained part is in job_output.';
comment on column trained.n_pictures is 'How many pictures were learnt from.';
comment on column trained.left_out is 'Pictures that could not be decoded: [[hash of the file, why], …].';
comment on column trained.held_out is 'The loss on what was held out after the last step: plain flow matching of a denoiser, the reconstruction loss of an autoencoder. Null where nothing was held out.';

create view training_curve as
select sweep.slug as sweep, training.name as model, curve.name as curve, curve.step, curve.value
from training
join sweep on sweep.id = training.sweep_id
join curve on curve.key = training.key;
comment on view training_curve is 'Losses, gradient norms, images a second and memory of every model that a sweep trains, by step.';
