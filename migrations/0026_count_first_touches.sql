-- A first touch whose outcome is unknown may be on the phone: it stays counted on its line's day, and is not counted again when it is asked
-- again on that day, nor held by a cap that is used up. The day is told by its end, which also tells apart the days of lines in other
-- zones. It is null while nothing is under way or unknown.
alter table outbox.jobs add column counted_until timestamptz;

create index jobs_counted on outbox.jobs (line_id, counted_until, priority, due_at, id)
    where state = 'queued' and ready and first_touch and counted_until is not null;

-- As in 0002, and whether a line whose cap is used up could ask again for what this day has counted. At most times the index has no row.
create or replace view outbox.openings as
    select l.id, l.gap_us, l.first_touch_gap_us, l.next_at, l.next_first_touch_at, l.slowdown, l.saturations,
           l.saturated_until, d.day, d.day_began_at, d.day_ends_at,
           case when l.first_touch_day = d.day then l.first_touches else 0 end as first_touches_today,
           case when l.first_touch_cap is not null
                then greatest(l.first_touch_cap - case when l.first_touch_day = d.day then l.first_touches else 0 end, 0)
           end as first_touches_left,
           greatest(l.next_at, l.next_first_touch_at, l.saturated_until,
                    case when l.first_touch_cap <= case when l.first_touch_day = d.day then l.first_touches else 0 end
                         then d.day_ends_at end) as first_touch_at,
           coalesce(l.first_touch_cap <= case when l.first_touch_day = d.day then l.first_touches else 0 end, false)
           and exists (select from outbox.jobs j
                        where j.state = 'queued' and j.ready and j.first_touch and j.line_id in (l.id, '*')
                          and j.counted_until = d.day_ends_at) as has_counted
      from outbox.lines l
     cross join lateral (
           select today.day, outbox.day_begins(today.day, l.time_zone) as day_began_at,
                  outbox.day_begins(today.day + 1, l.time_zone) as day_ends_at
             from (select (clock_timestamp() at time zone l.time_zone)::date as day) today) d
     where l.active and l.removed_at is null and l.paused_at is null
       and (l.id <> '*' or not exists (select from outbox.lines known where known.id <> '*' and known.removed_at is null));
