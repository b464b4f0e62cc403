"""What runs handlers: the event loop, threads, or processes."""
