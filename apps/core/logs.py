"""Logging: stdlib loggers, written by structlog as text for people or JSON for collectors, one line per event."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog
from django.core.exceptions import ImproperlyConfigured

from apps.core import correlation

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[hidden]"
SELDOM_SECONDS = 30.0
_SECRET_NAMES = frozenset(
    {"authorization", "x-api-key", "api_key", "token", "secret", "password", "cookie", "lease"}
)
# Keys and run tokens begin with a word of ours; what a caller typed as a credential may be anything.
_SECRETS = re.compile(
    r"\bgy[kr]_[A-Za-z0-9_:.\-]+"
    r"|(?<=[?&]token=)[^&\s\"']+"
    r"|(?i:(?<=bearer )|(?<=x-api-key: ))[^\s\"',]+"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password in a URL
)


def hide(text: str) -> str:
    """Return a text without the credentials in it."""
    return _SECRETS.sub(HIDDEN, text)


def configure(config: dict[str, Any]) -> None:
    """Set up logging; this is LOGGING_CONFIG. `config` = {"level": …, "format": "text" | "json"}."""
    levels = logging.getLevelNamesMapping()
    if config["level"] not in levels:
        raise ImproperlyConfigured(f"GYOZA_LOG_LEVEL: no such level {config['level']!r}")
    if config["format"] not in {"text", "json"}:
        raise ImproperlyConfigured(
            f"GYOZA_LOG_FORMAT: expected text or json, got {config['format']!r}"
        )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"seldom": {"()": Seldom}, "in_a_line": {"()": InALine}},
            "formatters": {"line": {"()": formatter, "style": config["format"]}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stderr",
                    "formatter": "line",
                }
            },
            "root": {"level": config["level"], "handlers": ["stderr"]},
            "loggers": {
                # Uvicorn brings handlers of its own, which would write every line a second time and unhidden.
                **{
                    name: {"handlers": [], "propagate": True}
                    for name in ("uvicorn", "uvicorn.error", "uvicorn.access")
                },
                "django.server": {"handlers": [], "propagate": True},
                # A line for every socket that is opened.
                "uvicorn.websocket": {"level": "WARNING"},
                # Anybody can send any Host: what was refused is told, not where in Django.
                "django.security.DisallowedHost": {"filters": ["in_a_line"]},
                # While Postgres is away, each pool tries twice a second.
                "psycopg.pool": {"filters": ["seldom"]},
                # A line or two for every nudge and sweep; a task that fails is still told.
                **{
                    name: {"level": "WARNING"}
                    for name in (
                        "celery.beat",
                        "celery.worker.request",
                        "celery.worker.strategy",
                        "celery.app.trace",
                    )
                },
            },
        }
    )


class Seldom(logging.Filter):
    """Lets one line of a kind through in SELDOM_SECONDS; its words may differ, its template doesn't."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = str(record.msg)
        is_due = record.created - self._told.get(kind, -SELDOM_SECONDS) >= SELDOM_SECONDS
        if is_due:
            self._told[kind] = record.created
        return is_due


class InALine(logging.Filter):
    """Leaves out where something was raised: what is told is about what came in, not about us."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


def formatter(style: str) -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter of one line: what every line carries, then the last step by style."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _add_correlation_id,
        _drop_coloured,
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, _hide_secrets, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.processors.format_exc_info,
            _hide_secrets,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _add_correlation_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    correlation_id = correlation.current()
    if correlation_id is not None:
        event.setdefault("correlation_id", correlation_id)
    return event


def _drop_coloured(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # Uvicorn says everything twice, the second time with the codes of a terminal.
    event.pop("color_message", None)
    return event


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name.lower() in _SECRET_NAMES:
            event[name] = HIDDEN
        elif isinstance(value, str):
            event[name] = hide(value)
        elif not isinstance(value, int | float | bool | None):
            event[name] = hide(str(value))
    return event
