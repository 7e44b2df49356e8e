"""The HTTP service, the pages, the worker's jobs and the command line."""
