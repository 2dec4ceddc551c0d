-- Whom the engine holds back, and for what: to be counted without reading all others who go through a campaign.
create index enrolments_held_back on outbox.enrolments (campaign, detail) where state = 'active' and detail is not null;
