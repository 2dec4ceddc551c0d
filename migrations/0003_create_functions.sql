-- What producers call from SQL, and the one way in which a finished job lets the next one of its recipient go.

-- Wakes the first waiting job of each phone. It runs in the transaction that ended the job before it, so that a crash cannot
-- come between, and once more after the commit, for a job that was admitted meanwhile and took the ended one for one in
-- flight; whatever is missed all the same is looked at again at its own wake_at.
-- In plpgsql, which plans the statement once a session and not at every call.
create function outbox.wake_next(phones text[]) returns bigint
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
                       order by j.priority, j.due_at, j.id
                       limit 1) head
                where not head.ready))
       -- "is true" hides this from the planner, who would take it as leave to read all of jobs_to_admit for these ids.
       and (state = 'queued' and not ready) is true and (reason is null or reason = 'behind_earlier');
    get diagnostics woken = row_count;
    return woken;
end
$$;

-- Puts one job in and returns its id; a dedupe_key that is there already inserts nothing and returns the existing id.
create function outbox.enqueue(
    phone text, body text, payload jsonb default '{}', phone_line_id text default null, dedupe_key text default null,
    priority int default 0, due_at timestamptz default now(), expires_at timestamptz default null,
    max_attempts int default 10, labels jsonb default '{}', traceparent text default null
) returns bigint
language plpgsql volatile as $$
#variable_conflict use_variable
declare
    job_id bigint;
begin
    insert into outbox.jobs as j
           (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent)
    values (enqueue.phone, enqueue.body, coalesce(enqueue.payload, '{}'), enqueue.phone_line_id, enqueue.dedupe_key,
            enqueue.priority::smallint, coalesce(enqueue.due_at, now()), enqueue.expires_at,
            coalesce(enqueue.max_attempts, 10), coalesce(enqueue.labels, '{}'), enqueue.traceparent)
    on conflict on constraint jobs_dedupe_key_key do nothing
    returning j.id into job_id;
    if job_id is null then
        select j.id into strict job_id from outbox.jobs j where j.dedupe_key = enqueue.dedupe_key;
    end if;
    return job_id;
end
$$;

-- Cancels those of these jobs that wait, and returns how many did: a job that is being sent, or has ended, stays as it is. One
-- that may be on the phone already, since its outcome is unknown, is not asked again but parked: it must not be called unsent.
-- Each recipient's next job is woken once, after all of them: one by one, a hundred thousand jobs of one recipient would wake
-- each other for hours. A producer may cancel its own jobs only, which is why this runs with the owner's rights and looks at
-- who called.
create function outbox.cancel_all(job_ids bigint[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    freed text[];
begin
    with stopped as (
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'canceled' else 'parked' end,
               reason = case when j.unknown_since is null then 'canceled' else 'outcome_unknown' end,
               ready = false, wake_at = null, finished_at = now()
         where j.id = any (cancel_all.job_ids) and j.state = 'queued'
           and (j.producer = session_user or pg_has_role(session_user, current_user, 'member')
                or exists (select from pg_roles r where r.rolname = 'outbox_worker' and pg_has_role(session_user, r.oid, 'member')))
        returning j.phone)
    select coalesce(array_agg(phone), '{}') into freed from stopped;
    perform outbox.wake_next(freed);
    return cardinality(freed);
end
$$;

-- Cancels one job, and tells whether it waited.
create function outbox.cancel(job_id bigint) returns boolean
language sql volatile as $$
    select outbox.cancel_all(array[job_id]) = 1
$$;

-- One constant notification a transaction wakes idle workers; Postgres folds equal ones. It can be switched off where
-- many small transactions commit at once, since a notifying commit takes a lock of the whole database:
--   alter table outbox.jobs disable trigger wake_workers;
create function outbox.notify_workers() returns trigger language plpgsql as $$
begin
    perform pg_notify('outbox_jobs', '');
    return null;
end
$$;

create trigger wake_workers after insert on outbox.jobs for each statement execute function outbox.notify_workers();
