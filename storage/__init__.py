"""S3 without Beam: transport, client, signing, checksums, limits, budget, multipart and the inventory."""
