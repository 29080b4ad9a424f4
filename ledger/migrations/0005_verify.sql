ALTER TABLE runs ADD COLUMN kind text NOT NULL DEFAULT 'run' CHECK (kind IN ('run', 'verify'));
ALTER TYPE destination_evidence ADD VALUE 'recorded_etag' BEFORE 'none';
-- Another tool wrote the object; a verifying run took it over.
ALTER TABLE objects ADD COLUMN adopted boolean NOT NULL DEFAULT false;

-- The destination inventory of a verifying run, a partition each.
CREATE TABLE destination_rows (
    run_id          bigint NOT NULL,
    destination_key text COLLATE "C" NOT NULL,
    size            bigint NOT NULL,
    etag            text,
    PRIMARY KEY (run_id, destination_key)
) PARTITION BY LIST (run_id);
