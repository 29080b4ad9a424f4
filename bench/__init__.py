"""Benchmarks: s3ferry against its peers, against a bare loop, and its parts by themselves."""
