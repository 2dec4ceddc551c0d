-- Three roles, shared by all databases of a server. Whoever migrates may lack the right to create roles: then they are
-- left out with a notice, and an administrator creates them and runs `select outbox.grant_roles()`.

create function outbox.masked(phone text) returns text
language sql immutable strict parallel safe as $$
    select left(phone, 2) || repeat('*', greatest(char_length(phone) - 6, 0)) || right(phone, 4)
$$;

-- A producer's own jobs, and nothing of anybody else's.
create view outbox.my_jobs with (security_barrier) as
    select id, dedupe_key, state, reason, attempt, due_at, message_id, sent_line_id, error_code, error_message,
           delivery_state, created_at, sent_at, finished_at
      from outbox.jobs where producer = session_user;

-- What a viewer sees: no bodies, no full numbers.
create view outbox.masked_jobs with (security_barrier) as
    select id, kind, outbox.masked(phone) as phone, priority, due_at, expires_at, state, reason, attempt, deferrals,
           claims, wake_at, line_id, first_touch, message_id, sent_line_id, status, error_code, error_message, trace_id,
           delivery_state, campaign, labels, created_at, sent_at, finished_at
      from outbox.jobs;
create view outbox.masked_recipients with (security_barrier) as
    select outbox.masked(phone) as phone, line_id, first_touched_at, last_outbound_at, last_inbound_at, unanswered
      from outbox.recipients;

create function outbox.grant_roles() returns void language plpgsql as $$
begin
    grant usage on schema outbox to outbox_producer, outbox_worker, outbox_viewer;

    grant insert (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent)
        on outbox.jobs to outbox_producer;
    grant select (id, dedupe_key) on outbox.jobs to outbox_producer;
    grant select on outbox.my_jobs to outbox_producer;

    grant select, insert, update, delete on all tables in schema outbox to outbox_worker;

    grant select on outbox.masked_jobs, outbox.masked_recipients to outbox_viewer;
    grant select on outbox.lines, outbox.account, outbox.workers, outbox.attempts to outbox_viewer;

    -- A new function is everybody's by default; only `masked` may stay so.
    revoke execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]), outbox.wake_next(text[]), outbox.grant_roles()
        from public;
    grant execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]) to outbox_producer, outbox_worker;
    grant execute on function outbox.wake_next(text[]) to outbox_worker;
end
$$;

do $$
declare
    role_name text;
begin
    foreach role_name in array array['outbox_producer', 'outbox_worker', 'outbox_viewer'] loop
        begin
            if not exists (select from pg_roles where rolname = role_name) then
                execute format('create role %I nologin', role_name);
            end if;
        exception
            -- Another database of this server is being migrated at the same moment.
            when duplicate_object or unique_violation then null;
        end;
    end loop;
    perform outbox.grant_roles();
exception
    when insufficient_privilege then
        raise notice 'the roles outbox_producer, outbox_worker and outbox_viewer were left out: this user may not create roles';
end
$$;
