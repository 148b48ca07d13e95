-- Workers that have stopped are many in time, and nobody who looks for those that live reads their rows. A beat changes no column
-- of it, and stays a change within its page.
create index worker_alive on worker (id) where stopped_at is null;
