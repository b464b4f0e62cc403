"""A provider in several processes, under a supervisor: `arbprov run --workers`."""
