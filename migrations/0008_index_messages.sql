-- no-transaction
-- The messages to one recipient, newest first: which of them a reply most likely answers. Built beside the writers, which no
-- transaction can do.
create index concurrently if not exists jobs_sent_to on outbox.jobs (phone, sent_at desc) where sent_at is not null;
