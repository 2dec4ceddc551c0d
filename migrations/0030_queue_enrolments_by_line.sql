-- Whose step makes a job waits for room among those of the same line and class: what waits for a line that is slow, or sends nothing,
-- takes no room of others. As with a job, '*' is whichever line comes first. Where it stands already it is looked at once more, and finds
-- its line then.
alter table outbox.enrolments
    add column line_id     text    not null default '*',
    add column first_touch boolean not null default true;

create index enrolments_of_line on outbox.enrolments (campaign, line_id, first_touch, due_at, id) where state = 'active' and ready;
