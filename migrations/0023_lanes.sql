-- Closed lanes are used again, so that sweeps with a limit do not add up to lanes without end.
comment on column lane.closed_at is 'No unfinished job is in it, and its sweep has a limit: claims do not look at it until it is opened again. Another sweep with a limit and the same needs may take it over.';
comment on column job_history.lane is 'A lane of the same needs. The gates before it may be another sweep''s by now.';
