-- A stray that is stored again is young again: whoever stores it is about to name it.
alter table stray add column stamp bigint not null default 0;
comment on column stray.stamp is 'When the store says that it was written. Whoever stores it anew changes that, and then it counts as just found.';
