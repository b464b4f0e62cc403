"""A provider in several modules; it begins in `ads.app`."""
