"""The public gRPC API, generated from protos/; never edited by hand."""
