"""Where limits keep their usage: in memory or in Redis. Start with base.py to add a store."""
