-- Whether a job stands ready in the two queues of a line, from these marks on or else from their heads: said once for those who claim and
-- for those who sleep. Both put it into their own statement, which reads two index entries a line for it; that ends if it gets settings of
-- its own, becomes strict or a security definer.
create function outbox.heads(line_id text, priority smallint, due_at timestamptz, id bigint,
                             touch_priority smallint, touch_due_at timestamptz, touch_id bigint)
returns table (follow_up boolean, first_touch boolean)
language sql stable as $$
    select exists (select from outbox.jobs j
                    where j.state = 'queued' and j.ready and j.line_id = heads.line_id and not j.first_touch
                      and (j.priority, j.due_at, j.id)
                       >= (coalesce(heads.priority, -32768), coalesce(heads.due_at, '-infinity'), coalesce(heads.id, 0))),
           exists (select from outbox.jobs j
                    where j.state = 'queued' and j.ready and j.line_id = heads.line_id and j.first_touch
                      and (j.priority, j.due_at, j.id)
                       >= (coalesce(heads.touch_priority, -32768), coalesce(heads.touch_due_at, '-infinity'), coalesce(heads.touch_id, 0)))
$$;
