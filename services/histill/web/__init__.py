"""The web page and its JSON endpoints: a gRPC client of the three services."""
