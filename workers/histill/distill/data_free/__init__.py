"""Data-free distillation: two generators make the samples that a student learns from."""
