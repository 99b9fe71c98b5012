"""The version of lgir, as its installed distribution states it."""

from importlib.metadata import version

__version__ = version("lgir")
