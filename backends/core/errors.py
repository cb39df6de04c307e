"""The exceptions that users of the adapters meet; what is theirs to mend derives from `AsrQuantError`."""


class AsrQuantError(Exception):
    """Something that the user can mend; its message is one sentence that says how."""


class SpecError(AsrQuantError, ValueError):
    """A specification that contradicts itself or names something unknown."""


class UnsupportedError(AsrQuantError):
    """A backend cannot do what the specification asks; the message is the capability's reason."""


class ModelError(AsrQuantError):
    """A model that the specification cannot be applied to; the message names every offending module."""


class CheckpointError(AsrQuantError):
    """A saved model that is incomplete, altered, or of an unknown version."""
