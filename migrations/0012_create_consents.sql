-- What people allowed and took back, and that somebody was erased. Both are facts: rows are added, and a consent goes only with its
-- person.

create table outbox.consents (
    id           bigint      generated always as identity primary key,
    phone        text        not null,
    kind         text        not null,
    -- When they said so; when we came to know it is recorded_at.
    given_at     timestamptz not null,
    -- The version of the text that they agreed to, or no longer agree to.
    text_version text        not null,
    source       text        not null,
    note         text,
    recorded_at  timestamptz not null default now(),
    constraint kind_is_given_or_withdrawn check (kind in ('given', 'withdrawn')),
    constraint consent_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    constraint text_version_is_1_to_200_characters check (char_length(text_version) between 1 and 200),
    constraint source_is_1_to_200_characters check (char_length(source) between 1 and 200),
    constraint note_is_at_most_2000_characters check (char_length(note) <= 2000)
);

create index consents_of_recipient on outbox.consents (phone, given_at);

-- How much was erased, by kind of data, and nothing of whom.
create table outbox.erasures (
    id     bigint      generated always as identity primary key,
    at     timestamptz not null default now(),
    counts jsonb       not null,
    reason text
);
