"""PostgreSQL, MongoDB, Redis, Elasticsearch and SQLite on Kubernetes from one ``Database`` resource."""

__version__ = "0.1.0"
