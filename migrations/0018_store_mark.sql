-- Which store this database's artifacts are in.
create table store_mark (
    only_one boolean primary key default true check (only_one),
    hash bytea not null references artifact (hash),
    made_at timestamptz not null default now()
);
comment on table store_mark is 'The artifact by which a worker knows the store: the first one put it there, and a worker that does not find it in its own store has another one.';
