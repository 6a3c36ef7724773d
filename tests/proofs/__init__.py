"""Which test proves what: the contract's rows and the catalogue's cases, against the markers and names in ``tests/``."""
