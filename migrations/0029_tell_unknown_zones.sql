-- A row may give its person's time zone, and is nobody where it names none that there is.
alter table outbox.audience_rows
    drop constraint problem_is_known,
    add constraint problem_is_known check (problem in ('bad_number', 'duplicate', 'unreadable', 'unknown_zone')) not valid;

alter table outbox.exclusions
    drop constraint exclusion_reason_is_known,
    add constraint exclusion_reason_is_known
        check (reason in ('bad_number', 'duplicate', 'unreadable', 'unknown_zone', 'suppressed')) not valid;
