-- What a GPU's memory holds of other programs is not a slot's to offer.
alter table worker_device add column foreign_mib int;
comment on column worker_device.foreign_mib is 'MiB in use by processes that are not the worker''s, at its last look; null where nobody knows.';

create or replace view slot as
select worker.id as worker_id, worker.host, worker_device.slot, count(*)::int as n_gpus,
    case when min(worker_device.model) = max(worker_device.model) then min(worker_device.model) else '' end as gpu_model,
    min(greatest(worker_device.memory_gib - coalesce(worker_device.foreign_mib, 0) / 1024, 0)) as gpu_memory_gib,
    own_labels(worker.labels) as labels, worker.beat_at
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
comment on view slot is 'What the slots of workers that have not stopped have to offer: of their GPUs'' memory what other programs leave. Every worker can do what needs no GPU; `ask` is an agent that asks machines.';
