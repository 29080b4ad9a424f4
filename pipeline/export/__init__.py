"""Files made of the ledger: dead letters, manifests, records, checksums (docs/export.md)."""
