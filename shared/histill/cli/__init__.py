"""The ``histill`` command: the SDK and embedded mode for people at a terminal."""
