"""The package's version, stored with every run and compared by workers with the job's."""

VERSION = "0.1.0"
