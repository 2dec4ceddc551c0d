-- What a campaign's messages were, for those who follow it. The step stands here by its name, since an index means another step in another
-- version. The columns are null in rows from before them, so that no table is rewritten or read.

alter table outbox.jobs
    add column step_name    text,
    -- The wording that this person got, where the step has several.
    add column variant      text,
    -- A stop that answered this message; `replied_at` tells of it too.
    add column opted_out_at timestamptz;

-- What a campaign has sent, to be counted. A row enters when it is recorded, and nothing that is written to it later moves it here.
create index jobs_sent_of_campaign on outbox.jobs (campaign) where campaign is not null and state in ('sent', 'duplicate');
