"""How a result is sent: kept until the hub has it, in memory or on disk."""
