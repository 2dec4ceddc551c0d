-- no-transaction
-- Texts by age, for retention: an event stays when its text goes, and is not to be read over again.
create index concurrently if not exists events_with_text on outbox.events (received_at, id) where body is not null;
