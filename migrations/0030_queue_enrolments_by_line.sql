-- Whose step makes a job waits for room among those of the same line and class: what waits for a line that is slow, or sends nothing,
-- takes no room of others. As with a job, '*' is whichever line comes first.
alter table outbox.enrolments
    add column line_id     text    not null default '*',
    add column first_touch boolean not null default true;

create index enrolments_of_line on outbox.enrolments (campaign, line_id, first_touch, due_at, id) where state = 'active' and ready;

-- Who waits for room already is looked at once more, and finds their line then; and what is queued of them stands where it will go.
update outbox.enrolments set ready = false where state = 'active' and ready;
update outbox.enrolments e
   set line_id = coalesce(r.line_id, '*'), first_touch = r.first_touched_at is null and r.last_inbound_at is null
  from outbox.recipients r
 where r.phone = e.phone and e.state = 'active' and e.waiting;
