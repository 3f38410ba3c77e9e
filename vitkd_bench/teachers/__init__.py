"""The teachers: one file a family."""
