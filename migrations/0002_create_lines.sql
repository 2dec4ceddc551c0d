-- What pacing and the last look before a send are decided on: small tables, keyed, never the backlog itself.

-- A line's next free slots are columns, so that all workers together share one schedule (GCRA). The row '*' stands for
-- "any line": it is used while no lines are known, and new lines start with a copy of its paces.
create table outbox.lines (
    id                  text        primary key,
    number              text,
    active              boolean     not null default true,
    removed_at          timestamptz,
    paused_at           timestamptz,
    paused_reason       text,
    gap_us              bigint      not null default 1000000,
    first_touch_gap_us  bigint      not null default 600000000,
    first_touch_cap     int         default 30,
    time_zone           text        not null default 'UTC',
    next_at             timestamptz not null default now(),
    next_first_touch_at timestamptz not null default now(),
    first_touch_day     date,
    first_touches       int         not null default 0,
    slowdown            real        not null default 1,
    saturations         int         not null default 0,
    saturated_until     timestamptz,
    synced_at           timestamptz,
    created_at          timestamptz not null default now(),
    constraint gap_is_0_to_1_day check (gap_us between 0 and 86400000000),
    constraint first_touch_gap_is_0_to_7_days check (first_touch_gap_us between 0 and 604800000000),
    constraint first_touch_cap_is_not_negative check (first_touch_cap >= 0),
    constraint slowdown_is_1_to_64 check (slowdown between 1 and 64)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

insert into outbox.lines (id) values ('*');

create table outbox.recipients (
    phone            text        primary key,
    line_id          text,
    first_touched_at timestamptz,
    last_outbound_at timestamptz,
    last_inbound_at  timestamptz,
    unanswered       int         not null default 0,
    time_zone        text,
    created_at       timestamptz not null default now(),
    constraint recipient_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$')
) with (fillfactor = 80);

create table outbox.suppressions (
    phone      text        primary key,
    reason     text        not null,
    source     text        not null default 'operator',
    created_at timestamptz not null default now(),
    constraint suppressed_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$')
);

-- One row: who this database sends for, and what stops everybody. The namespace goes into every idempotency key, so that
-- two databases of one tenant never share a key by accident.
create table outbox.account (
    one           boolean     primary key default true,
    namespace     text        not null default gen_random_uuid()::text,
    deployment    text        not null default 'default',
    blocked_until timestamptz,
    block_kind    text,
    block_reason  text,
    block_code    int,
    blocked_at    timestamptz,
    probes        int         not null default 0,
    clock_set_at  timestamptz,
    constraint one_row check (one),
    constraint block_kind_is_known check (block_kind in ('rate_limited', 'halted')),
    constraint block_is_whole check ((block_kind is null) = (blocked_until is null) and (block_kind is null) = (block_reason is null))
);

insert into outbox.account default values;

create table outbox.workers (
    id              text        primary key,
    name            text        not null,
    pid             int         not null,
    version         text        not null,
    started_at      timestamptz not null default now(),
    heartbeat_at    timestamptz not null default now(),
    stopping        boolean     not null default false,
    concurrency     int         not null,
    in_flight       int         not null default 0,
    dispatch        text        not null default 'probing',
    dispatch_reason text,
    sent            bigint      not null default 0
) with (fillfactor = 50);

-- The first instant of a day in a zone. Where clocks are put back over midnight, that midnight comes twice, and Postgres
-- takes the later one; where midnight is left out, the day begins when the clock has been put forward.
create function outbox.day_begins(day date, time_zone text) returns timestamptz
language sql immutable parallel safe as $$
    select case when (((day::timestamp at time zone time_zone) - interval '1 hour') at time zone time_zone)::date = day
                then (day::timestamp at time zone time_zone) - interval '1 hour'
                else day::timestamp at time zone time_zone end
$$;

-- Lines that may be dealt slots, with what follows from their columns and the hour. It stays a plain view, so that
-- `for update` on it locks the lines themselves and reads them as locked.
create view outbox.openings as
    select l.id, l.gap_us, l.first_touch_gap_us, l.next_at, l.next_first_touch_at, l.slowdown, l.saturations,
           l.saturated_until, d.day, d.day_began_at, d.day_ends_at,
           case when l.first_touch_day = d.day then l.first_touches else 0 end as first_touches_today,
           case when l.first_touch_cap is not null
                then greatest(l.first_touch_cap - case when l.first_touch_day = d.day then l.first_touches else 0 end, 0)
           end as first_touches_left,
           -- When the next first touch may go, were there one: after the gap, the cap and Chert's own "full".
           greatest(l.next_at, l.next_first_touch_at, l.saturated_until,
                    case when l.first_touch_cap <= case when l.first_touch_day = d.day then l.first_touches else 0 end
                         then d.day_ends_at end) as first_touch_at
      from outbox.lines l
     cross join lateral (
           select today.day, outbox.day_begins(today.day, l.time_zone) as day_began_at,
                  outbox.day_begins(today.day + 1, l.time_zone) as day_ends_at
             from (select (clock_timestamp() at time zone l.time_zone)::date as day) today) d
     where l.active and l.removed_at is null and l.paused_at is null
       and (l.id <> '*' or not exists (select from outbox.lines known where known.id <> '*' and known.removed_at is null));
