"""The registry service: models and datasets, stored as immutable versions."""
