"""The jobs service: accepts, tells of, cancels and reaps distillation jobs."""
