"""The command line."""

from gfm.cli.commands import app
from gfm.cli.process import join_parameters, main

__all__ = ["app", "join_parameters", "main"]
