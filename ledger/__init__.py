"""The PostgreSQL ledger, without Beam: schema, runs and leases, batched writing, queries."""
