"""Executors: run handlers on the event loop, on threads, or in processes."""
