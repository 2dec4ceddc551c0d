-- When somebody may be enrolled once more by a firing. From firing to firing: the batch that somebody was enrolled in came some time
-- after its firing, and the next one may come sooner after its own. A day may have 23 hours. But who was enrolled late, because a
-- firing was made up for, has half of the time for themselves. Whom the application enrolled, from then. Null if never.
create function outbox.again_from(enrolled timestamptz, fired timestamptz, again_after interval) returns timestamptz
language sql immutable parallel safe as $$
    select case when again_from.fired is null then again_from.enrolled + again_from.again_after
                else greatest(again_from.fired + again_from.again_after
                                  - case when again_from.again_after >= interval '1 day' then interval '1 hour' else interval '0' end,
                              again_from.enrolled + again_from.again_after / 2) end
$$;

-- Nobody looks for notifications by their job: they say nothing without it, and go by themselves after a week.
drop index outbox.notifications_of_job;

-- A goal is reached when that is said, and not when the transaction began that says it.
alter table outbox.goals alter column reached_at set default clock_timestamp();

-- Enrols somebody in a campaign and returns the enrolment's id: of the one there is, if the campaign's rule forbids another. That one
-- gets the variables given here that it lacks, unless that is too much for one person; who is held gets all of them, and goes on. Null if the campaign was stopped. With the owner's rights: the application needs none on the table.
create or replace function outbox.enrol(campaign text, phone text, vars jsonb default '{}') returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    rule record;
    latest record;
    enrolment bigint;
begin
    if jsonb_typeof(enrol.vars) = 'null' or enrol.vars is null then
        enrol.vars := '{}';
    elsif jsonb_typeof(enrol.vars) <> 'object' then
        raise exception 'the variables are of the type %, not an object', jsonb_typeof(enrol.vars)
            using errcode = 'invalid_parameter_value', hint = 'write them as in {"name": "Ann"}';
    end if;
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
    loop
        select e.id, e.round, e.state, e.created_at
          into latest
          from outbox.enrolments e
         where e.campaign = enrol.campaign and e.phone = enrol.phone
         order by e.round desc
         limit 1;
        if latest.state in ('active', 'held') then
            -- Its state may be another by now, and is looked at again where that is waited for.
            update outbox.enrolments e
               set vars = outbox.brought(e.state, e.vars, enrol.vars), state = 'active', reason = null,
                   detail = case when e.state = 'active' then e.detail end, due_at = coalesce(e.due_at, now()),
                   -- Who has not been written to waits for nothing but this: their step's time begins now.
                   reached_at = case when e.state = 'held' and e.sent_at is null then greatest(e.reached_at, now()) else e.reached_at end
             where e.id = latest.id
               and (e.state = 'held'
                    or e.state = 'active' and outbox.brought(e.state, e.vars, enrol.vars) <> e.vars
                       and octet_length(outbox.brought(e.state, e.vars, enrol.vars)::text) <= 65536);
            return latest.id;
        end if;
        if latest.id is not null and (rule.again_after is null or latest.created_at > now() - rule.again_after) then
            return latest.id;
        end if;
        insert into outbox.enrolments (campaign, version, phone, round, vars)
        values (enrol.campaign, rule.version, enrol.phone, coalesce(latest.round, 0) + 1, enrol.vars)
        on conflict on constraint one_enrolment_a_round do nothing
        returning id into enrolment;
        if enrolment is not null then
            return enrolment;
        end if;
        -- Somebody else was quicker, and has committed: theirs gets what is brought here.
    end loop;
end
$$;
