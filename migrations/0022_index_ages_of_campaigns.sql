-- What is old of campaigns, for retention, as in 0014.
create index enrolments_finished on outbox.enrolments (finished_at, id) where finished_at is not null;
create index goals_reached on outbox.goals (reached_at, id);
create index ticks_finished on outbox.ticks (finished_at, id) where finished_at is not null;
