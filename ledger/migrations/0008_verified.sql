-- Which run verified the object the destination holds, and when; null in rows of older versions (docs/ledger.md).
-- Not additive: a version that writes an object without setting them would leave another object's proof beside it.
ALTER TABLE objects ADD COLUMN verified_run bigint, ADD COLUMN verified_at timestamptz;
