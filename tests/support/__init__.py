"""Servers, fakes and helpers that several tests use."""
