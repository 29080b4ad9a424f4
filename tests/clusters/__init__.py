"""The job on real clusters; they need Java."""
