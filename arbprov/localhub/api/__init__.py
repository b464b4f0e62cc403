"""The bundled hub's HTTP API."""
