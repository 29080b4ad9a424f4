-- What the run's rows in attempts were when it was closed; see docs/export.md.
ALTER TABLE runs
    ADD COLUMN records bigint,
    ADD COLUMN records_digest text,
    ADD COLUMN records_encoding integer;
