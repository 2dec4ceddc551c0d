-- Who waits for a first message stands apart from who has had one: a list of new contacts waits for days for its lines, and the second
-- messages of those who were written to must not wait behind all of it.

create index enrolments_in_turn on outbox.enrolments (campaign, ready, (sent_at is not null), due_at, id) where state = 'active';
drop index outbox.enrolments_due;
