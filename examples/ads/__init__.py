"""A provider in several modules; begin with `ads.app`."""
