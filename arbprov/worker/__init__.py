"""The worker: polls the hub, runs tasks, and stops without losing results."""
