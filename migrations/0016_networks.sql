-- Metrics that look through a network: which weights each score is by.

alter table package_part drop constraint package_part_part_check;
alter table package_part add constraint package_part_part_check check (part in ('text', 'denoiser', 'vae', 'network'));
comment on column package_part.part is 'What of the package is loaded on its own; network: the whole folder, which a metric looks through.';

alter table sweep add column networks jsonb not null default '{}';
comment on column sweep.networks is 'What its metrics look through: by metric, the hash of the network in hex. It says no more of a metric than its scores do: theirs is score.network.';

alter table score add column network bytea not null default '';
comment on column score.network is 'package_part.hash of the network that it was seen through; empty for metrics that need none.';
-- One transaction ends many jobs, so the moment does not tell two networks apart.
alter table score drop constraint score_pkey;
alter table score add primary key (image_id, metric, variant, version, reference, network, scored_at);

create or replace view metric_history as
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
    score.job_id,
    nullif(encode(score.network, 'hex'), '') as network
from score
join image on image.id = score.image_id
join cell on cell.picture = image.picture
join sweep on sweep.id = cell.sweep_id
join source on source.sweep_id = cell.sweep_id and source.idx = cell.source_idx
where encode(score.network, 'hex') = coalesce(sweep.networks ->> score.metric, '');
comment on view metric_history is 'Every score with the sweep, source and sample that it belongs to: one row for each sweep that has the image and, where the metric looks through a network, asks for that one.';
