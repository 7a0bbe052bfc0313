"""What is said once a process, however often it is so (logger `npuc`)."""

from __future__ import annotations

import logging

logger = logging.getLogger("npuc")
_said: set[str] = set()
MOST = 1000
"""Different texts that are remembered; beyond them all are forgotten and said again."""


def say_once(text: str, what: str | None = None) -> None:
    """A warning the first time, then at level DEBUG. what: it is about; texts about one thing count as one."""
    key = what or text
    if key in _said:
        logger.debug(text)
        return
    if len(_said) >= MOST:
        _said.clear()
    _said.add(key)
    logger.warning(text)
