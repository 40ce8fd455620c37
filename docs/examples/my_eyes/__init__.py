"""An example backbone and an example data source; see docs/extending.md."""
