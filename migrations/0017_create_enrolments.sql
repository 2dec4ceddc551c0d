-- Who goes through a campaign, where they stand, and what ended it; and the two functions by which the application takes part.

create table outbox.enrolments (
    id          bigint      generated always as identity primary key,
    campaign    text        not null,
    version     int         not null,
    phone       text        not null,
    -- Counts the times that this person went through this campaign: who enrols them once more writes the next number, and of several
    -- who do so at once, one.
    round       int         not null default 1,
    vars        jsonb       not null default '{}',
    tick_id     bigint,
    state       text        not null default 'active',
    reason      text,
    -- The variable that is missing, or the field that does not fit; nothing of what they hold.
    detail      text,
    -- The index in the program of the version, and when it was reached.
    step        int         not null default 0,
    reached_at  timestamptz not null default now(),
    -- The step makes a job, and waits for its turn: however many do, none is written to for that.
    ready       boolean     not null default false,
    -- When it is looked at next. While its job is under way, that is only a net: whatever ends the job brings it forward.
    due_at      timestamptz default now(),
    -- The last job made, and how many of them the step has taken: one whose window closed before its turn ends, and another follows.
    job_id      bigint,
    made        int         not null default 0,
    -- The step waits for that job.
    waiting     boolean     not null default false,
    sent_at     timestamptz,
    created_at  timestamptz not null default now(),
    finished_at timestamptz,
    constraint one_enrolment_a_round unique (campaign, phone, round),
    constraint enrolled_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    constraint vars_are_an_object check (jsonb_typeof(vars) = 'object'),
    constraint vars_are_at_most_64_kilobytes check (octet_length(vars::text) <= 65536),
    constraint enrolment_state_is_known check (state in ('active', 'held', 'done', 'stopped')),
    constraint enrolment_reason_is_known check (reason in
        ('missing_variable', 'unreadable', 'not_pinned', 'not_in_pool', 'never_open',
         'replied', 'opted_out', 'goal', 'campaign_stopped',
         'failed', 'expired', 'canceled', 'suppressed', 'parked', 'job_missing')),
    constraint reason_iff_held_or_stopped check ((state in ('held', 'stopped')) = (reason is not null)),
    constraint due_iff_active check ((state = 'active') = (due_at is not null)),
    constraint enrolment_finished_iff_ended check ((state in ('active', 'held')) = (finished_at is null)),
    constraint waits_for_a_job check (not waiting or job_id is not null),
    constraint ready_or_waiting check (not ready or not waiting)
) with (
    -- Rows move to another place in the index with every step: its head fills with dead entries where vacuum waits for a share.
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- By campaign first, so that those of a paused one are nowhere in the way.
create index enrolments_due on outbox.enrolments (campaign, ready, due_at, id) where state = 'active';
create index enrolments_live on outbox.enrolments (campaign, id) where state in ('active', 'held');
create index enrolments_of_phone on outbox.enrolments (phone);
create index enrolments_of_job on outbox.enrolments (job_id) where waiting;

-- What a campaign was for, and that somebody did it.
create table outbox.goals (
    id         bigint      generated always as identity primary key,
    campaign   text        not null,
    phone      text        not null,
    -- That was ended by it.
    enrolment  bigint,
    reached_at timestamptz not null default now(),
    constraint goal_phone_is_e164_like_plus15550142200 check (phone ~ '^\+[1-9][0-9]{6,14}$')
);

create index goals_of_phone on outbox.goals (phone);

-- Lets the enrolments that wait for these jobs go on. An enrolment that somebody holds at this moment is left to its net: whoever
-- stops it locks it before its job, and those two must not wait for each other.
create function outbox.wake_enrolments(job_ids bigint[]) returns void
language plpgsql volatile as $$
begin
    if exists (select from outbox.campaigns) then
        update outbox.enrolments e
           set due_at = now()
         where e.id = any (array(
                   select w.id
                     from outbox.enrolments w
                    -- "is true" as in outbox.wake_next: else all that is due is read for these jobs.
                    where w.job_id = any (wake_enrolments.job_ids) and w.waiting and (w.state = 'active') is true
                      for update skip locked));
    end if;
end
$$;

-- Ends enrolments for this reason, with what waits in the outbox for them, and returns how many. A job that is being sent is not called
-- back; should it come back to the queue, admission ends it.
create function outbox.stop_enrolments(ids bigint[], why text) returns bigint
language plpgsql volatile as $$
declare
    stopped bigint;
    their_jobs bigint[];
    freed text[];
begin
    with ended as (
        update outbox.enrolments e
           set state = 'stopped', reason = stop_enrolments.why, detail = null, due_at = null, ready = false, waiting = false, finished_at = now()
         where e.id = any (stop_enrolments.ids) and e.state in ('active', 'held')
        returning e.job_id)
    select count(*), coalesce(array_agg(ended.job_id) filter (where ended.job_id is not null), '{}')
      into stopped, their_jobs
      from ended;
    with canceled as (
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'canceled' else 'parked' end,
               reason = case when j.unknown_since is null then 'canceled' else 'outcome_unknown' end,
               ready = false, wake_at = null, finished_at = now()
         where j.id = any (their_jobs) and (j.state = 'queued') is true
        returning j.phone)
    select coalesce(array_agg(canceled.phone), '{}') into freed from canceled;
    perform outbox.wake_next(freed);
    return stopped;
end
$$;

-- Enrols somebody in a campaign and returns the enrolment's id: of the one there is, if the campaign's rule forbids another. Who is held
-- for a missing variable gets the ones given here, and goes on. Null if the campaign was stopped.
-- With the owner's rights: the application needs none on the table.
create function outbox.enrol(campaign text, phone text, vars jsonb default '{}') returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    rule record;
    latest record;
    enrolment bigint;
begin
    select c.state, c.version, v.again_after
      into rule
      from outbox.campaigns c
      join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
     where c.name = enrol.campaign;
    if not found then
        raise exception 'there is no campaign named "%"', enrol.campaign
            using errcode = 'invalid_parameter_value', hint = 'chert-outbox campaign apply brings it here; campaign list shows what there is';
    end if;
    if rule.state = 'stopped' then
        return null;
    end if;
    select e.id, e.round, e.state, e.reason, e.created_at
      into latest
      from outbox.enrolments e
     where e.campaign = enrol.campaign and e.phone = enrol.phone
     order by e.round desc
     limit 1;
    if latest.state = 'held' and latest.reason = 'missing_variable' then
        update outbox.enrolments e
           set vars = e.vars || coalesce(enrol.vars, '{}'), state = 'active', reason = null, detail = null, due_at = now()
         where e.id = latest.id and e.state = 'held';
        return latest.id;
    end if;
    if latest.id is not null
       and (latest.state in ('active', 'held') or rule.again_after is null or latest.created_at > now() - rule.again_after) then
        return latest.id;
    end if;
    insert into outbox.enrolments (campaign, version, phone, round, vars)
    values (enrol.campaign, rule.version, enrol.phone, coalesce(latest.round, 0) + 1, coalesce(enrol.vars, '{}'))
    on conflict on constraint one_enrolment_a_round do nothing
    returning id into enrolment;
    if enrolment is null then
        select e.id into strict enrolment
          from outbox.enrolments e
         where e.campaign = enrol.campaign and e.phone = enrol.phone and e.round = coalesce(latest.round, 0) + 1;
    end if;
    return enrolment;
end
$$;

-- Notes that somebody did what a campaign is for, and tells whether that ended their enrolment: it does where stop_on says goal.
create function outbox.goal(campaign text, phone text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    enrolment bigint;
begin
    if not exists (select from outbox.campaigns c where c.name = goal.campaign) then
        raise exception 'there is no campaign named "%"', goal.campaign
            using errcode = 'invalid_parameter_value', hint = 'chert-outbox campaign list shows what there is';
    end if;
    select e.id
      into enrolment
      from outbox.enrolments e
      join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
     where e.phone = goal.phone and e.campaign = goal.campaign and e.state in ('active', 'held') and 'goal' = any (v.stop_on)
     order by e.round desc
     limit 1;
    if enrolment is not null and outbox.stop_enrolments(array[enrolment], 'goal') = 0 then
        enrolment := null;
    end if;
    insert into outbox.goals (campaign, phone, enrolment) values (goal.campaign, goal.phone, enrolment);
    return enrolment is not null;
end
$$;
