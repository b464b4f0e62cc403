"""The generated messages of the wire; see protos/generate.py."""
