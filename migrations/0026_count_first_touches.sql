-- A first touch whose outcome is unknown may be on the phone: it stays counted on its line's day, and is not counted again when it is asked
-- again, nor held by a cap that is used up. The day is the line's own, of the claim that counted it; null again once it is known that
-- nothing went out.
alter table outbox.jobs add column counted_on date;

create index jobs_counted on outbox.jobs (line_id, counted_on, priority, due_at, id)
    where state = 'queued' and ready and first_touch and counted_on is not null;

-- With the newest day on which one of the line's ready first touches is counted already; none, and then nothing to read, at most times.
drop function outbox.heads(text, smallint, timestamptz, bigint, smallint, timestamptz, bigint);
create function outbox.heads(line_id text, priority smallint, due_at timestamptz, id bigint,
                             touch_priority smallint, touch_due_at timestamptz, touch_id bigint)
returns table (follow_up boolean, first_touch boolean, counted_on date)
language sql stable as $$
    select exists (select from outbox.jobs j
                    where j.state = 'queued' and j.ready and j.line_id = heads.line_id and not j.first_touch
                      and (j.priority, j.due_at, j.id)
                       >= (coalesce(heads.priority, -32768), coalesce(heads.due_at, '-infinity'), coalesce(heads.id, 0))),
           exists (select from outbox.jobs j
                    where j.state = 'queued' and j.ready and j.line_id = heads.line_id and j.first_touch
                      and (j.priority, j.due_at, j.id)
                       >= (coalesce(heads.touch_priority, -32768), coalesce(heads.touch_due_at, '-infinity'), coalesce(heads.touch_id, 0))),
           (select j.counted_on from outbox.jobs j
             where j.state = 'queued' and j.ready and j.line_id = heads.line_id and j.first_touch and j.counted_on is not null
             order by j.counted_on desc
             limit 1)
$$;
