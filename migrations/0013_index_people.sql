-- All of one person, and who waits for a look.

-- With jobs_of_recipient (what waits) and jobs_sent_to (what was sent) this finds every job of a person, for `recipients show` and for
-- an erasure. Jobs that are sent never enter it.
create index jobs_ended_unsent on outbox.jobs (phone, id) where sent_at is null and finished_at is not null;
-- The longest wait first. In other words than a look at one recipient uses: the planner shall not take this index for that.
create index recipients_in_review on outbox.recipients (review_since) where review_reason is not null;
