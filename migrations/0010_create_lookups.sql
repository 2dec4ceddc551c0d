-- Messages whose delivery is not known for good: one row each, until it is read, has failed, or is given up. Whoever looks is told
-- here what to ask next, so that the jobs themselves need no index for it.

create table outbox.lookups (
    job_id     bigint      primary key,
    message_id text        not null,
    sent_at    timestamptz not null,
    -- What the job says of its delivery, kept here so that news is told from what was known.
    state      text        not null default 'sent',
    -- The fence: grows whenever somebody takes or changes the row, and every later write names it.
    looks      int         not null default 0,
    -- When it is looked at next; whoever takes it moves this on, which is the lease.
    due_at     timestamptz not null
) with (
    -- Rows move to another place in the index with every look: its head fills with dead entries where vacuum waits for a share.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

create index lookups_due on outbox.lookups (due_at);
-- An event names its message.
create index lookups_of_message on outbox.lookups (message_id);
