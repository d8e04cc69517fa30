"""Log lines of the daemon, for people or for machines."""

from __future__ import annotations

import json
import logging
import time

from zeroloss.config import Log


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up_logging(config: Log) -> None:
    """Send the log of every part of zeroloss to stderr in the configured form."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonLines()
        if config.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    logger = logging.getLogger("zeroloss")
    logger.handlers[:] = [handler]
    logger.setLevel(config.log_level.upper())
    logger.propagate = False
