-- no-transaction
-- Events by age, for retention.
create index concurrently if not exists events_received on outbox.events (received_at, id);
