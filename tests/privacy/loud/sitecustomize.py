"""On the path of a process that a test starts: all its loggers tell everything, whatever is set."""

from __future__ import annotations

import logging

logging.Logger.getEffectiveLevel = lambda self: logging.DEBUG  # type: ignore[method-assign]
logging.Logger.isEnabledFor = lambda self, level: True  # type: ignore[method-assign]
logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
