ALTER TABLE objects ADD COLUMN crc32c text;
ALTER TABLE attempts ADD COLUMN crc32c text;
ALTER TABLE parts ADD COLUMN crc32c text;
