"""Where limits keep what was used: in memory or in Redis. Start with base.py to add a store."""
