-- Who is held, and for what: a few among all who go through a campaign, to be counted without reading the others.
create index enrolments_held on outbox.enrolments (campaign, reason) where state = 'held';
