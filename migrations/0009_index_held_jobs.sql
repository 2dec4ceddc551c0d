-- What waits for our hearing to come back, to be let go at once when it has.
create index jobs_held_stale on outbox.jobs (id) where state = 'queued' and reason = 'inbound_stale';
