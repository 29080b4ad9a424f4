-- additive
-- What was at the destination before, where the run was told to look.
ALTER TABLE objects ADD COLUMN replaced_etag text, ADD COLUMN replaced_version text;
ALTER TABLE attempts ADD COLUMN replaced_etag text, ADD COLUMN replaced_version text;
