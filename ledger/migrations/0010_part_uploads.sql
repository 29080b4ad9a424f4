-- additive
-- Which upload a part was sent to: its identity may get another one. NULL: written by a package that did not say.
ALTER TABLE parts ADD COLUMN upload_id text;
