"""Mistakes that the user can mend. The command line prints them as one sentence and ends with status 2."""

from backends import AsrQuantError


class ConfigError(AsrQuantError):
    """An experiment file that cannot be run as it is written."""


class DataError(AsrQuantError):
    """Speech or transcripts that are missing, empty or unreadable."""


class CheckpointNotFoundError(AsrQuantError):
    """A model that is not where the experiment says, or that lacks a part."""


class HubUnreachableError(AsrQuantError):
    """The model hub cannot be reached and the cache does not have what is needed."""


class OutputError(AsrQuantError):
    """Results that cannot be written."""
