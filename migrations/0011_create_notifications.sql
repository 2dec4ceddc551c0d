-- How a producer follows its own messages: a view, a channel to listen on, and webhooks that tell it.

alter table outbox.account
    -- One notification for the jobs that each transaction moved. It can be switched off where many commit at once, since a
    -- notifying commit takes a lock of the whole database:
    --   update outbox.account set progress = false;
    add column progress      boolean not null default true,
    -- Whether rows for webhooks are written; `worker --notify-url` says so.
    add column notifications boolean not null default false;

create table outbox.notifications (
    id           bigint      generated always as identity primary key,
    -- What the receiver knows it by, the same at every attempt.
    webhook_id   uuid        not null default gen_random_uuid(),
    job_id       bigint      not null,
    what         text        not null,
    created_at   timestamptz not null default clock_timestamp(),
    -- Grows with every taking, and is the fence.
    attempts     int         not null default 0,
    -- When it is posted next; whoever takes it moves this on, which is the lease.
    due_at       timestamptz default clock_timestamp(),
    delivered_at timestamptz,
    -- Given up: a dead letter.
    failed_at    timestamptz,
    http_status  int,
    error        text,
    constraint what_is_known check (what in
        ('sent', 'duplicate', 'failed', 'parked', 'expired', 'suppressed', 'delivered', 'read', 'replied', 'opted_out')),
    constraint due_iff_not_ended check ((due_at is null) = (delivered_at is not null or failed_at is not null)),
    constraint delivered_or_failed check (delivered_at is null or failed_at is null)
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

create index notifications_due on outbox.notifications (due_at, id) where due_at is not null;
create index notifications_failed on outbox.notifications (id) where failed_at is not null;
-- For the erasure of a person.
create index notifications_of_job on outbox.notifications (job_id);

-- Tells of these jobs in the transaction that changed them: listeners of outbox_progress hear {"what": …, "jobs": […]}, in pieces
-- that fit into a notification (8,000 bytes; an id takes 20 at most), and webhooks get their rows.
create function outbox.announce(job_ids bigint[], what text) returns void
language plpgsql volatile as $$
declare
    account record;
begin
    if cardinality(announce.job_ids) = 0 then
        return;
    end if;
    select a.progress, a.notifications into strict account from outbox.account a;
    if account.progress then
        perform pg_notify('outbox_progress', json_build_object('what', announce.what, 'jobs', piece.jobs)::text)
           from (select to_json(array_agg(j.id order by j.place)) as jobs
                   from unnest(announce.job_ids) with ordinality j (id, place)
                  group by (j.place - 1) / 350) piece;
    end if;
    if account.notifications then
        insert into outbox.notifications (job_id, what)
        select j.id, announce.what from unnest(announce.job_ids) with ordinality j (id, place) order by j.place;
    end if;
end
$$;

-- A producer's own messages, and what became of them.
create view outbox.deliveries with (security_barrier) as
    select id, dedupe_key, state, reason, message_id, delivery_state, sent_at, delivered_at, read_at, replied_at
      from outbox.jobs where producer = session_user;
