"""arbprov's log."""
