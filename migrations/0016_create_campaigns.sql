-- Campaigns as they were applied, when they fire, and whom each firing found. What is written to whom and when is decided outside, from
-- the definition; here is what must survive a restart and be decided once.

create table outbox.campaigns (
    name       text        primary key,
    -- What new enrolments start with; those that run keep theirs.
    version    int         not null,
    state      text        not null default 'running',
    -- The first firing that is no row in outbox.ticks yet; none for a campaign that never fires by itself (again).
    next_at    timestamptz,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    constraint campaign_name_is_1_to_64_characters check (name ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    constraint campaign_state_is_known check (state in ('running', 'paused', 'stopped'))
) with (fillfactor = 50);

-- The people of one firing or of one file, row by row, until they are enrolled. A number that is none is not kept.
create table outbox.audience_rows (
    audience bigint not null,
    -- Of a file the line at which the row begins, of a query the number of the row.
    n        bigint not null,
    phone    text,
    vars     jsonb  not null default '{}',
    problem  text,
    primary key (audience, n),
    constraint phone_or_problem check (phone is not null or problem is not null),
    constraint problem_is_known check (problem in ('bad_number', 'duplicate', 'unreadable')),
    constraint audience_vars_are_an_object check (jsonb_typeof(vars) = 'object')
);

-- For the erasure of a person.
create index audience_rows_of_phone on outbox.audience_rows (phone) where phone is not null;

create sequence outbox.audiences as bigint;

-- Never changed: a version that people are enrolled in says tomorrow what it said today.
create table outbox.campaign_versions (
    campaign    text        not null references outbox.campaigns (name),
    version     int         not null,
    definition  jsonb       not null,
    -- Out of the definition, for statements: when somebody may be enrolled again, never if it is null; and what ends an enrolment.
    again_after interval,
    stop_on     text[]      not null,
    labels      jsonb       not null default '{}',
    priority    smallint    not null default 0,
    -- The rows of its file, and what the file was.
    audience    bigint,
    digest      text,
    created_at  timestamptz not null default now(),
    created_by  text        not null default session_user,
    primary key (campaign, version),
    constraint definition_is_an_object check (jsonb_typeof(definition) = 'object'),
    constraint stop_on_is_known check (stop_on <@ array['reply', 'opt_out', 'goal'])
);

-- Every firing, also those that did nothing. The key lets any number of processes try, and one win.
create table outbox.ticks (
    id          bigint      generated always as identity primary key,
    campaign    text        not null,
    at          timestamptz not null,
    version     int         not null,
    -- new: whom it finds is not known yet; enrolling: the rows of its audience are gone through.
    state       text        not null,
    reason      text,
    -- What went wrong, as the database said it, without values.
    error       text,
    manual      boolean     not null default false,
    -- Noticed late, and made up for or not.
    late        boolean     not null default false,
    -- Goes on beside an earlier firing, instead of after it.
    beside      boolean     not null default false,
    jitter      interval    not null default '0',
    audience    bigint,
    -- The row of the audience that was looked at last.
    position    bigint      not null default 0,
    people      bigint      not null default 0,
    enrolled    bigint      not null default 0,
    excluded    jsonb       not null default '{}',
    -- How often its audience could not be read, and when that is tried again.
    failures    int         not null default 0,
    again_at    timestamptz,
    recorded_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    constraint one_tick_a_firing unique (campaign, at),
    constraint tick_state_is_known check (state in ('new', 'enrolling', 'done', 'missed', 'skipped', 'failed')),
    constraint tick_reason_is_known check (reason in ('caught_up', 'too_late', 'overlap', 'no_audience', 'audience_failed', 'stopped')),
    constraint tick_finished_iff_ended check ((state in ('new', 'enrolling')) = (finished_at is null))
) with (fillfactor = 70);

create index ticks_open on outbox.ticks (campaign, at) where finished_at is null;

-- Whom a firing found and did not enrol, but for those who are or were enrolled already: these are counted in the tick alone.
create table outbox.exclusions (
    tick_id bigint not null,
    -- The row of the audience.
    n       bigint not null,
    reason  text   not null,
    -- Masked: enough to find a person in a list, too little to keep.
    phone   text,
    primary key (tick_id, n),
    constraint exclusion_reason_is_known check (reason in ('bad_number', 'duplicate', 'unreadable', 'suppressed'))
);
