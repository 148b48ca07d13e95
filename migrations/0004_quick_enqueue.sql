-- What every enqueue paid for and nothing needed.

-- A claim looks for loaded work in a window of job_claim.
drop index job_claim_loaded;

-- A pool's task is a long list of hashes, which compression hardly shortens.
alter table job alter column task set storage external;
