"""The plan of a study: what its trials will be, as far as that is known before the first of them, for callbacks."""
