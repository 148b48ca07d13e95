-- What models make: where packages lie, what jobs have put into the store, how pictures were generated and reconstructed.

create table package_part (
    hash bytea not null check (length(hash) = 32),
    root bytea not null,
    name text not null,
    part text not null check (part in ('text', 'denoiser', 'vae')),
    seen_at timestamptz not null default now(),
    primary key (hash, root)
);
comment on table package_part is 'Where parts of packages were seen. A worker that does not have the folder looks for the name on the hub.';
comment on column package_part.hash is 'Of the names and bytes of all files that the part reads.';
comment on column package_part.name is 'As a sweep named it: a path or OWNER/NAME.';

create table job_output (
    key bytea primary key check (length(key) = 32),
    job_id bigint not null,
    artifact bytea not null references artifact,
    n_cut int[],
    made_at timestamptz not null default now()
);
comment on table job_output is 'The artifact that a job has made, by the key of its work: where later jobs find it.';
comment on column job_output.n_cut is 'Of an encoded prompt: tokens that the limits of CLIP-L, OpenCLIP-G and T5 cut off.';

create table generation (
    content bytea primary key check (length(content) = 32),
    artifact bytea not null references artifact,
    width int not null,
    height int not null,
    prompt text not null,
    negative text,
    seed bigint not null,
    steps int not null,
    guidance double precision not null,
    t5_tokens int not null,
    dtype text not null,
    partition text not null,
    format text not null,
    text_hash bytea not null,
    denoiser_hash bytea not null,
    vae_hash bytea not null,
    n_cut int[] not null,
    job_id bigint not null,
    made_at timestamptz not null default now()
);
comment on table generation is 'How each generated picture was made.';
comment on column generation.content is 'image.content: the key of the job that decoded it.';
comment on column generation.negative is 'Null without guidance.';
comment on column generation.n_cut is 'Tokens of the prompt that the limits of CLIP-L, OpenCLIP-G and T5 cut off.';

create table reconstruction (
    content bytea primary key check (length(content) = 32),
    artifact bytea not null references artifact,
    width int not null,
    height int not null,
    original jsonb not null,
    latent text not null,
    seed bigint,
    dtype text not null,
    partition text not null,
    vae_hash bytea not null,
    job_id bigint not null,
    made_at timestamptz not null default now()
);
comment on table reconstruction is 'How each reconstructed picture was made.';
comment on column reconstruction.content is 'image.content: the key of the job that reconstructed it.';
comment on column reconstruction.original is 'The recipe of the original.';

alter table source add column making jsonb;
comment on column source.making is 'How a model makes its images: model, size, steps, guidance and so on; null for images that exist.';
comment on column image.content is 'The hash of the file that it comes from; of a made one, the key of the job that makes it.';

alter table worker add column has_cuda boolean not null default false;
comment on column worker.has_cuda is 'Whether it takes jobs of lane 1.';

create view generated_image as
select sweep.slug as sweep, source.name as source, source.making ->> 'model' as model, cell.sample,
    generation.width, generation.height, generation.prompt, generation.negative, generation.seed, generation.steps,
    generation.guidance, generation.t5_tokens, generation.dtype, generation.partition, generation.format,
    generation.n_cut, encode(generation.artifact, 'hex') as file, encode(generation.denoiser_hash, 'hex') as denoiser,
    encode(generation.text_hash, 'hex') as text_encoders, encode(generation.vae_hash, 'hex') as vae,
    encode(cell.picture, 'hex') as picture, generation.job_id, generation.made_at
from generation
join image on image.content = generation.content
join cell on cell.picture = image.picture
join sweep on sweep.id = cell.sweep_id
join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx;
comment on view generated_image is 'Every generated image that was scored, with its settings: one row for each sweep that has it.';
create index image_by_content on image (content);
