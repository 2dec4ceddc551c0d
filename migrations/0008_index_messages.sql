-- The messages to one recipient, newest first: which of them a reply most likely answers. Built in the migration's own transaction:
-- `concurrently` would wait for every other migrator's snapshot, and they wait for this one's lock.
create index jobs_sent_to on outbox.jobs (phone, sent_at desc) where sent_at is not null;
