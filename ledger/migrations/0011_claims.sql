-- additive
-- Which source object a run copies to a destination key, where its rows may hold several for one: a partition for each such run.
CREATE TABLE claims (
    run_id          bigint NOT NULL,
    destination_key text COLLATE "C" NOT NULL,
    source_bucket   text NOT NULL,
    source_key      text COLLATE "C" NOT NULL,
    source_version  text,
    PRIMARY KEY (run_id, destination_key)
) PARTITION BY LIST (run_id);

-- With the owner's rights, for a run that is under way; what ended runs of its job claimed is dropped.
DO $migration$
BEGIN
    EXECUTE format($create$
        CREATE FUNCTION make_claims(run bigint) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp SET lock_timeout = '2s' AS $body$
        DECLARE
            name text := 'claims_' || run;
            earlier bigint;
        BEGIN
            IF NOT EXISTS (SELECT FROM runs WHERE run_id = run AND outcome = 'running') THEN
                RAISE EXCEPTION 'no run %% is under way', run USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            FOR earlier IN
                SELECT older.run_id FROM runs mine JOIN runs older USING (job)
                WHERE mine.run_id = run AND older.run_id < run AND to_regclass('claims_' || older.run_id) IS NOT NULL
            LOOP
                BEGIN
                    EXECUTE format('DROP TABLE IF EXISTS %%I', 'claims_' || earlier);
                EXCEPTION WHEN lock_not_available THEN
                    NULL; -- somebody reads it, a backup perhaps: the next run drops it
                END;
            END LOOP;
            IF to_regclass(name) IS NULL THEN
                EXECUTE format('CREATE TABLE %%I (LIKE claims INCLUDING ALL)', name);
                EXECUTE format('ALTER TABLE claims ATTACH PARTITION %%I FOR VALUES IN (%%L)', name, run);
            END IF;
        END $body$
    $create$, current_schema());
END $migration$;
REVOKE ALL ON FUNCTION make_claims(bigint) FROM PUBLIC;
