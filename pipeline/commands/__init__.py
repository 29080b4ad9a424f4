"""The commands of `s3ferry`, one module each."""
