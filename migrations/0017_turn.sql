-- As before, but its plan is kept: a function in SQL that is not inlined is planned anew each time that it is called, which took
-- most of a small enqueue's time in Postgres.
create or replace function turn_now(of_lane smallint, of_priority smallint) returns bigint language plpgsql stable as $$
begin
    return coalesce(
        (select max(turn) from (
            select turn from job
            where state = 'ready' and not held and n_attempts = 0 and lane = of_lane and priority = of_priority
            order by turn, id
            limit 8) as next),
        (select max(turn) from (select lane, priority, turn from attempt order by lease desc limit 64) as latest
            where lane = of_lane and priority = of_priority),
        (select max(turn) from (select lane, priority, turn from attempt order by lease desc limit 64) as latest
            where priority = of_priority and (select n_gpus > 0 from lane where id = latest.lane) = (select n_gpus > 0 from lane where id = of_lane)),
        0);
end
$$;
comment on function turn_now is 'Virtual time of a lane: where a sweep begins that is enqueued now, so that it neither overtakes what waits nor waits for all of it.';
