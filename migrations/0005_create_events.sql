-- What Chert tells us. An event is stored before anything is made of it, once, however often and by whichever of the three ways
-- (webhook, stream, list) it comes; applying it is a later step, which may be interrupted and repeated.

create table outbox.events (
    id          bigint      generated always as identity primary key,
    -- Chert's own, or made of the event itself where it has none.
    event_id    text        not null unique,
    type        text        not null,
    source      text        not null,
    -- As it came, byte for byte; null once its retention is over or its sender is erased.
    body        text,
    -- Who wrote to us, where the event says so and it is a number that can be written to.
    phone       text,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp(),
    applied_at  timestamptz,
    effect      text,
    job_id      bigint,
    constraint source_is_known check (source in ('webhook', 'stream', 'list')),
    constraint effect_is_known check (effect in ('reply', 'opt_out', 'opt_in', 'review', 'delivery', 'ignored', 'unreadable')),
    constraint effect_iff_applied check ((effect is null) = (applied_at is null)),
    constraint event_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$')
) with (fillfactor = 80, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);

create index events_to_apply on outbox.events (id) where applied_at is null;
create index events_of_sender on outbox.events (phone, occurred_at) where phone is not null;

-- How far each way has come, who reads it, and when it last proved that replies are being received. A reader is elected by taking
-- the lease; every later write names its fence, so that a reader that was thought dead moves nothing.
create table outbox.cursors (
    name        text        primary key,
    position    text,
    proved_at   timestamptz,
    holder      text,
    fence       bigint      not null default 0,
    lease_until timestamptz,
    constraint lease_iff_held check ((holder is null) = (lease_until is null))
) with (fillfactor = 50);

insert into outbox.cursors (name) values ('webhook'), ('stream'), ('list');
