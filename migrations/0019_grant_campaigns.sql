-- What the three roles may do with campaigns.

create view outbox.masked_enrolments with (security_barrier) as
    select id, campaign, version, outbox.masked(phone) as phone, round, tick_id, state, reason, detail, step, reached_at, due_at, job_id,
           sent_at, created_at, finished_at
      from outbox.enrolments;

create or replace function outbox.grant_roles() returns void language plpgsql as $$
begin
    grant usage on schema outbox to outbox_producer, outbox_worker, outbox_viewer;

    grant insert (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent, class)
        on outbox.jobs to outbox_producer;
    grant select (id, dedupe_key) on outbox.jobs to outbox_producer;
    grant select on outbox.my_jobs, outbox.deliveries to outbox_producer;

    grant select, insert, update, delete on all tables in schema outbox to outbox_worker;
    grant usage on sequence outbox.audiences to outbox_worker;

    grant select on outbox.masked_jobs, outbox.masked_recipients, outbox.masked_enrolments to outbox_viewer;
    grant select on outbox.lines, outbox.workers, outbox.attempts, outbox.cursors, outbox.notifications to outbox_viewer;
    grant select on outbox.campaigns, outbox.campaign_versions, outbox.ticks, outbox.exclusions to outbox_viewer;
    -- Not the namespace of the keys, and not the key of the hashes.
    revoke select on outbox.account from outbox_viewer;
    grant select (one, deployment, blocked_until, block_kind, block_reason, block_code, blocked_at, probes, clock_set_at, progress, notifications)
        on outbox.account to outbox_viewer;

    -- A new function is everybody's by default; only what computes from its arguments alone may stay so.
    revoke execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]), outbox.wake_next(text[]), outbox.grant_roles(),
                               outbox.release(text, text), outbox.phone_hash(text), outbox.announce(bigint[], text),
                               outbox.is_deaf(interval), outbox.wake_enrolments(bigint[]), outbox.stop_enrolments(bigint[], text),
                               outbox.enrol(text, text, jsonb), outbox.goal(text, text)
        from public;
    grant execute on function outbox.cancel(bigint), outbox.cancel_all(bigint[]), outbox.enrol(text, text, jsonb), outbox.goal(text, text)
        to outbox_producer, outbox_worker;
    grant execute on function outbox.wake_next(text[]), outbox.release(text, text), outbox.phone_hash(text),
                              outbox.announce(bigint[], text), outbox.is_deaf(interval), outbox.wake_enrolments(bigint[]),
                              outbox.stop_enrolments(bigint[], text) to outbox_worker;
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
