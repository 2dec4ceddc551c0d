-- What the three roles may do with all that came since they were made.

create or replace function outbox.grant_roles() returns void language plpgsql as $$
begin
    grant usage on schema outbox to outbox_producer, outbox_worker, outbox_viewer;

    grant insert (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent, class)
        on outbox.jobs to outbox_producer;
    grant select (id, dedupe_key) on outbox.jobs to outbox_producer;
    grant select on outbox.my_jobs, outbox.deliveries to outbox_producer;

    grant select, insert, update, delete on all tables in schema outbox to outbox_worker;

    grant select on outbox.masked_jobs, outbox.masked_recipients to outbox_viewer;
    grant select on outbox.lines, outbox.workers, outbox.attempts, outbox.cursors, outbox.notifications to outbox_viewer;
    -- Not the namespace of the keys, and not the key of the hashes.
    revoke select on outbox.account from outbox_viewer;
    grant select (one, deployment, blocked_until, block_kind, block_reason, block_code, blocked_at, probes, clock_set_at, progress, notifications)
        on outbox.account to outbox_viewer;

    -- A new function is everybody's by default; only what computes from its arguments alone may stay so.
    revoke execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]), outbox.wake_next(text[]), outbox.grant_roles(),
                               outbox.release(text, text), outbox.phone_hash(text), outbox.announce(bigint[], text),
                               outbox.is_deaf(interval)
        from public;
    grant execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]) to outbox_producer, outbox_worker;
    grant execute on function outbox.wake_next(text[]), outbox.release(text, text), outbox.phone_hash(text),
                              outbox.announce(bigint[], text), outbox.is_deaf(interval) to outbox_worker;
end
$$;

do $$
begin
    perform outbox.grant_roles();
exception
    when undefined_object or insufficient_privilege then
        raise notice 'the roles outbox_producer, outbox_worker and outbox_viewer are not granted anything new: run select outbox.grant_roles()';
end
$$;
