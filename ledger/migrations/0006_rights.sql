-- additive
-- Lets a role that owns nothing start runs and verify against an inventory: the partition is made with the owner's rights, for a run that is under way.
-- The search_path is pinned, pg_temp last, so that no table of the caller can stand in for the ledger's.
DO $migration$
BEGIN
    EXECUTE format($create$
        CREATE FUNCTION add_attempts_partition(run bigint) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $body$
        DECLARE
            name text := 'attempts_' || run;
        BEGIN
            IF NOT EXISTS (SELECT FROM runs WHERE run_id = run AND outcome = 'running') THEN
                RAISE EXCEPTION 'no run %% is under way', run USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            -- Made apart and then attached: CREATE ... PARTITION OF would lock out every reader of attempts.
            EXECUTE format('CREATE TABLE %%I (LIKE attempts INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE attempts ATTACH PARTITION %%I FOR VALUES IN (%%L)', name, run);
        END $body$
    $create$, current_schema());
    EXECUTE format($create$
        CREATE FUNCTION make_destination_rows(run bigint) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $body$
        DECLARE
            name text := 'destination_rows_' || run;
            earlier bigint;
        BEGIN
            IF NOT EXISTS (SELECT FROM runs WHERE run_id = run AND outcome = 'running') THEN
                RAISE EXCEPTION 'no run %% is under way', run USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            FOR earlier IN
                SELECT older.run_id FROM runs mine JOIN runs older USING (job)
                WHERE mine.run_id = run AND older.run_id < run AND older.kind = 'verify'
                  AND to_regclass('destination_rows_' || older.run_id) IS NOT NULL
            LOOP
                EXECUTE format('DROP TABLE IF EXISTS %%I', 'destination_rows_' || earlier);
            END LOOP;
            IF to_regclass(name) IS NULL THEN
                EXECUTE format('CREATE TABLE %%I (LIKE destination_rows INCLUDING ALL)', name);
                EXECUTE format('ALTER TABLE destination_rows ATTACH PARTITION %%I FOR VALUES IN (%%L)', name, run);
            END IF;
        END $body$
    $create$, current_schema());
END $migration$;
REVOKE ALL ON FUNCTION add_attempts_partition(bigint), make_destination_rows(bigint) FROM PUBLIC;
