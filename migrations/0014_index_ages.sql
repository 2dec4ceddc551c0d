-- What is old, by kind of data, for retention: without these each batch would read over all that stays. What is deleted leaves from
-- the old end, where nobody inserts.
create index jobs_finished on outbox.jobs (finished_at, id) where finished_at is not null;
create index attempts_started on outbox.attempts (started_at);
create index events_received on outbox.events (received_at, id);
-- An event stays when its text goes, and is not to be read over again.
create index events_with_text on outbox.events (received_at, id) where body is not null;
