ALTER TYPE destination_evidence ADD VALUE 'stored_checksum' BEFORE 'none';
-- Asked for every large object: what was begun to this key before?
CREATE INDEX uploads_to ON uploads (destination_key);
