-- no-transaction
-- Finished jobs by age, for retention: without it, each batch would read over all that stays.
create index concurrently if not exists jobs_finished on outbox.jobs (finished_at, id) where finished_at is not null;
