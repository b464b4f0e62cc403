"""How a result is sent: `outbox` keeps it until the hub has it, a journal remembers it."""
