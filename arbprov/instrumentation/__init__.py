"""What lets one watch a provider at work."""
