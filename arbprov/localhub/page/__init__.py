"""The bundled hub's page: what people see of their tasks, limits and providers."""
