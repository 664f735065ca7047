"""The plain domain: jobs, manifests, specs, errors and ports; no I/O of its own."""
