-- What a campaign does to jobs that are queued already: paused or stopped, it holds them; and what becomes of them, it hears.

alter table outbox.jobs
    drop constraint reason_is_known,
    add constraint reason_is_known check (reason in
        ('behind_earlier', 'recipient_saturated', 'retrying', 'outcome_unknown', 'account_stopped', 'unreachable',
         'inbound_stale', 'unanswered', 'in_review', 'campaign_paused',
         'rejected', 'attempts_exhausted', 'payload_changed', 'payload_unreadable', 'expired', 'canceled', 'suppressed')) not valid;

-- What waits for one campaign: to be let go when it is resumed, canceled when it is stopped, and counted before more is made. No row of
-- another producer enters it.
create index jobs_of_campaign on outbox.jobs (campaign, id) where state = 'queued' and campaign is not null;

create or replace function outbox.is_held(reason text) returns boolean
language sql immutable parallel safe as $$
    select reason is not null and reason in ('inbound_stale', 'unanswered', 'in_review', 'campaign_paused')
$$;

-- As before, and the enrolments that wait for a job hear of its end too.
create or replace function outbox.announce(job_ids bigint[], what text) returns void
language plpgsql volatile as $$
declare
    account record;
begin
    if cardinality(announce.job_ids) = 0 then
        return;
    end if;
    if announce.what in ('sent', 'duplicate', 'failed', 'parked', 'expired', 'suppressed') then
        perform outbox.wake_enrolments(announce.job_ids);
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

create or replace function outbox.cancel_all(job_ids bigint[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    freed text[];
    ended bigint[];
begin
    with stopped as (
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'canceled' else 'parked' end,
               reason = case when j.unknown_since is null then 'canceled' else 'outcome_unknown' end,
               ready = false, wake_at = null, finished_at = now()
         where j.id = any (cancel_all.job_ids) and j.state = 'queued'
           and (j.producer = session_user or pg_has_role(session_user, current_user, 'member')
                or exists (select from pg_roles r where r.rolname = 'outbox_worker' and pg_has_role(session_user, r.oid, 'member')))
        returning j.id, j.phone)
    select coalesce(array_agg(phone), '{}'), coalesce(array_agg(id), '{}') into freed, ended from stopped;
    perform outbox.wake_enrolments(ended);
    perform outbox.wake_next(freed);
    return cardinality(freed);
end
$$;
