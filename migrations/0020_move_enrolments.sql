-- An enrolment may be moved to another version of its campaign. The keys of its jobs then say which: by the number of a step alone, one
-- of the new version would be taken for another that was sent under the old one.

alter table outbox.enrolments
    -- The steps whose messages it was past when it was moved, by their names; none if it goes through the version that it began with. No
    -- later version brings one of them again.
    add column had text[];
