"""The worker: a Celery app that supervises training subprocesses."""
