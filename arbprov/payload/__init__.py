"""How JSON becomes a handler's arguments, and a handler's result JSON."""
