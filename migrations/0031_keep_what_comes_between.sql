-- What comes in between is not lost: a variable that is brought before anybody has looked at an enrolment; a firing that has come, and that
-- nobody has noticed when its campaign's times are changed; a goal that is reached after a firing, before whoever did it is enrolled.

alter table outbox.ticks
    drop constraint tick_reason_is_known,
    add constraint tick_reason_is_known check (reason in
        ('caught_up', 'too_late', 'overlap', 'no_audience', 'audience_failed', 'stopped', 'rescheduled')) not valid;

alter table outbox.exclusions
    drop constraint exclusion_reason_is_known,
    add constraint exclusion_reason_is_known
        check (reason in ('bad_number', 'duplicate', 'unreadable', 'unknown_zone', 'goal', 'suppressed')) not valid;

-- Without what is as good as missing: nulls, and texts of blanks.
create function outbox.filled(vars jsonb) returns jsonb
language sql immutable strict parallel safe as $$
    select coalesce(jsonb_object_agg(v.key, v.value), '{}') from jsonb_each(filled.vars) v where v.value #>> '{}' ~ '\S'
$$;

-- The variables of an enrolment in this state with those that are brought for it: to who is held they bring what they say, and to others
-- what is lacking.
create function outbox.brought(state text, vars jsonb, more jsonb) returns jsonb
language sql immutable strict parallel safe as $$
    select case when brought.state = 'held' then outbox.filled(brought.vars) || outbox.filled(brought.more)
                else outbox.filled(brought.more) || outbox.filled(brought.vars) end
$$;

-- Enrols somebody in a campaign and returns the enrolment's id: of the one there is, if the campaign's rule forbids another. That one
-- gets the variables given here that it lacks; who is held gets all of them, and goes on. Null if the campaign was stopped.
-- With the owner's rights: the application needs none on the table.
create or replace function outbox.enrol(campaign text, phone text, vars jsonb default '{}') returns bigint
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
    select e.id, e.round, e.state, e.created_at
      into latest
      from outbox.enrolments e
     where e.campaign = enrol.campaign and e.phone = enrol.phone
     order by e.round desc
     limit 1;
    if latest.state in ('active', 'held') then
        -- Its state may be another by now, and is looked at again where that is waited for.
        update outbox.enrolments e
           set vars = outbox.brought(e.state, e.vars, coalesce(enrol.vars, '{}')), state = 'active', reason = null,
               detail = case when e.state = 'active' then e.detail end, due_at = coalesce(e.due_at, now()),
               -- Who has not been written to waits for nothing but this: their step's time begins now.
               reached_at = case when e.state = 'held' and e.sent_at is null then greatest(e.reached_at, now()) else e.reached_at end
         where e.id = latest.id
           and (e.state = 'held' or e.state = 'active' and outbox.brought(e.state, e.vars, coalesce(enrol.vars, '{}')) <> e.vars);
        return latest.id;
    end if;
    if latest.id is not null and (rule.again_after is null or latest.created_at > now() - rule.again_after) then
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
