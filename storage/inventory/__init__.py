"""Reading S3 inventories and Batch Operations manifests, without Beam: manifest, spooled files, rows."""
