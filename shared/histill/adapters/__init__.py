"""The ports of ``histill.core.ports`` over S3, Redis and Celery; errors become ours here."""
