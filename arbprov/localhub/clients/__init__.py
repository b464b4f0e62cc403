"""Clients of a bundled hub's HTTP API, sync and async."""
