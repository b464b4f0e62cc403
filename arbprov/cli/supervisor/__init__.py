"""Several workers of one provider, under a supervisor (`arbprov run --workers`)."""
