"""A provider for an API whose refresh tokens rotate; begin with `oauth.app`."""
