-- Jobs that are held: nothing is wrong with them, but their recipient, or our hearing, is not ready. What is held lets what may go pass.
-- Columns come with constant defaults and constraints without a look at the rows before them, so that no table is rewritten or read.

alter table outbox.jobs
    add column class            text        not null default 'transactional',
    -- The one answer to a stop.
    add column past_suppression boolean     not null default false,
    add column replied_at       timestamptz,
    add constraint class_is_transactional_or_marketing check (class in ('transactional', 'marketing')) not valid,
    drop constraint reason_is_known,
    add constraint reason_is_known check (reason in
        ('behind_earlier', 'recipient_saturated', 'retrying', 'outcome_unknown', 'account_stopped', 'unreachable',
         'inbound_stale', 'unanswered', 'in_review',
         'rejected', 'attempts_exhausted', 'payload_changed', 'payload_unreadable', 'expired', 'canceled', 'suppressed')) not valid;

-- Whether a waiting job is held, and so does not hold up those behind it.
create function outbox.is_held(reason text) returns boolean
language sql immutable parallel safe as $$
    select reason is not null and reason in ('inbound_stale', 'unanswered', 'in_review')
$$;

-- Whether a reply or a stop may have been missed: nothing has proved of late that they are received, or what came is not applied.
create function outbox.is_deaf(stale_after interval) returns boolean
language sql stable as $$
    select coalesce(max(proved_at) < now() - stale_after, true)
           or coalesce((select e.received_at < now() - interval '30 seconds'
                          from outbox.events e where e.applied_at is null order by e.id limit 1), false)
      from outbox.cursors
$$;

-- As before, but what is held is passed over.
create or replace function outbox.wake_next(phones text[]) returns bigint
language plpgsql volatile as $$
declare
    woken bigint;
begin
    update outbox.jobs
       set wake_at = now()
     where id = any (array(
               select head.id
                 from (select distinct unnest(phones) as phone) p
                cross join lateral (
                      select j.id, j.ready
                        from outbox.jobs j
                       where j.phone = p.phone and j.state in ('queued', 'sending') and j.due_at <= now()
                         and not outbox.is_held(j.reason)
                       order by j.priority, j.due_at, j.id
                       limit 1) head
                where not head.ready))
       -- "is true" hides this from the planner, who would take it as leave to read all of jobs_to_admit for these ids.
       and (state = 'queued' and not ready) is true and (reason is null or reason = 'behind_earlier');
    get diagnostics woken = row_count;
    return woken;
end
$$;

-- Lets jobs of this recipient that were held for this reason be looked at now.
create function outbox.release(recipient text, why text) returns bigint
language plpgsql volatile as $$
declare
    released bigint;
begin
    update outbox.jobs j
       set wake_at = now(), reason = null
     where j.phone = recipient and j.state in ('queued', 'sending') and (j.state = 'queued' and not j.ready) is true and j.reason = why;
    get diagnostics released = row_count;
    return released;
end
$$;

-- A producer may say the class at once: the other rights come with a later migration.
do $$
begin
    grant insert (class) on outbox.jobs to outbox_producer;
exception
    when undefined_object or insufficient_privilege then null;
end
$$;

-- The same as before, with the class of the job.
drop function outbox.enqueue(text, text, jsonb, text, text, int, timestamptz, timestamptz, int, jsonb, text);
create function outbox.enqueue(
    phone text, body text, payload jsonb default '{}', phone_line_id text default null, dedupe_key text default null,
    priority int default 0, due_at timestamptz default now(), expires_at timestamptz default null,
    max_attempts int default 10, labels jsonb default '{}', traceparent text default null, class text default 'transactional'
) returns bigint
language plpgsql volatile as $$
#variable_conflict use_variable
declare
    job_id bigint;
begin
    insert into outbox.jobs as j
           (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent, class)
    values (enqueue.phone, enqueue.body, coalesce(enqueue.payload, '{}'), enqueue.phone_line_id, enqueue.dedupe_key,
            enqueue.priority::smallint, coalesce(enqueue.due_at, now()), enqueue.expires_at,
            coalesce(enqueue.max_attempts, 10), coalesce(enqueue.labels, '{}'), enqueue.traceparent,
            coalesce(enqueue.class, 'transactional'))
    on conflict on constraint jobs_dedupe_key_key do nothing
    returning j.id into job_id;
    if job_id is null then
        select j.id into strict job_id from outbox.jobs j where j.dedupe_key = enqueue.dedupe_key;
    end if;
    return job_id;
end
$$;
