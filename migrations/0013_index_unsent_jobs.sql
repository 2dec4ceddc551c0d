-- no-transaction
-- With jobs_of_recipient (what waits) and jobs_sent_to (what was sent) this finds every job of a person, for `recipients show` and for
-- an erasure. Jobs that are sent never enter it.
create index concurrently if not exists jobs_ended_unsent on outbox.jobs (phone, id) where sent_at is null and finished_at is not null;
