-- no-transaction
-- What waits for our hearing to come back, to be let go at once when it has. Each index is a migration of its own: one statement
-- that runs outside of a transaction.
create index concurrently if not exists jobs_held_stale on outbox.jobs (id) where state = 'queued' and reason = 'inbound_stale';
