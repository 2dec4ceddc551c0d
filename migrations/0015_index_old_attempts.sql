-- no-transaction
-- Attempts by age, for retention.
create index concurrently if not exists attempts_started on outbox.attempts (started_at);
