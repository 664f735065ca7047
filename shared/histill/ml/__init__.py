"""What worker and inference both need, without torch."""
