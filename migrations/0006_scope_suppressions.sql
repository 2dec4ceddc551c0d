-- Who must not be written to: for everything, or for the jobs that carry one label; and whom a person shall look at first.

alter table outbox.suppressions
    add column scope    text not null default 'all',
    -- The event by which the recipient said so.
    add column event_id text,
    drop constraint suppressions_pkey,
    add primary key (phone, scope),
    add constraint scope_is_all_or_key_value check (scope = 'all' or scope ~ '^[^=]{1,64}=.{1,200}$');

-- Whether a suppression of this scope covers such a job: `all`, `campaign=<its campaign>`, or `<label>=<value>`.
create function outbox.in_scope(scope text, campaign text, labels jsonb) returns boolean
language sql immutable parallel safe as $$
    select scope = 'all' or scope = 'campaign=' || campaign
        or labels ->> split_part(scope, '=', 1) = substr(scope, strpos(scope, '=') + 1)
$$;

-- Suppressions of people who were erased: no number is kept, and a job to them is known by its hash when it comes back.
alter table outbox.account
    add column hash_key bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

create table outbox.erased (
    phone_hash bytea       not null,
    scope      text        not null,
    reason     text        not null,
    source     text        not null,
    created_at timestamptz not null default now(),
    primary key (phone_hash, scope)
);

create function outbox.phone_hash(phone text) returns bytea
language sql stable strict as $$
    select sha256(hash_key || convert_to(phone, 'UTF8')) from outbox.account
$$;

alter table outbox.recipients
    -- What they said that no list could read for certain: nothing goes out until a person has looked.
    add column review_since  timestamptz,
    add column review_reason text,
    -- The newest stop and the newest start, by Chert's clock: events come in any order, and the later word counts.
    add column opted_out_at  timestamptz,
    add column opted_in_at   timestamptz,
    add constraint review_is_whole check ((review_since is null) = (review_reason is null));
