-- What a pause holds, to be let go when its campaign runs again: a few rows, also where a campaign has many queued.
create index jobs_held_paused on outbox.jobs (campaign, id) where state = 'queued' and reason = 'campaign_paused';
