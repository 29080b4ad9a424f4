-- additive
-- Slice -1 of an input file is what was expected of it before it was read.
ALTER TABLE manifest_files ADD COLUMN expected_rows bigint, ADD COLUMN bad_reason text;
