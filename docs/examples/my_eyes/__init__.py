"""A backbone and a data source of one's own; see docs/extending.md."""
