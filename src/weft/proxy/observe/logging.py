"""The proxy's own log."""

import logging


def logger(component: str) -> logging.Logger:
    """The logger of a component, by Envoy's name (``main``, ``upstream``, ...)."""
    return logging.getLogger(f"weft.{component}")
