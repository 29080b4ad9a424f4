ALTER TYPE destination_evidence ADD VALUE 'stored_checksum' BEFORE 'none';
