"""The configuration schema: load, convert, validate, and say where a problem is."""
