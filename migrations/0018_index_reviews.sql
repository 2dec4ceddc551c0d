-- no-transaction
-- Who waits for a person to look at them, the longest first.
create index concurrently if not exists recipients_in_review on outbox.recipients (review_since) where review_since is not null;
