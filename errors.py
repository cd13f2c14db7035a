"""The errors a user can mend. The command line prints their one message and exits with their code."""


class FacetrainError(Exception):
    """A failure with a message for the user: what is wrong, where, what is accepted, what to do next."""

    exit_code = 1


class ConfigError(FacetrainError):
    """A wrong key, type or value in a spec or an override; the message names the key."""

    exit_code = 2


class DataError(FacetrainError):
    """Data that cannot be used as a whole; the message names the file, and the line where there is one."""

    exit_code = 2


class ModelFileError(FacetrainError):
    """A model or state file that is missing, damaged, of another kind, or does not fit the request."""

    exit_code = 2


class WriteError(FacetrainError):
    """A file that cannot be written: a disk that is full or read-only."""


class TrainingError(FacetrainError):
    """Training that cannot go on, such as a loss that is not finite or a disk that is full."""


class ExportError(FacetrainError):
    """An export that cannot be made or handed over: a graph an engine refuses, a result out of tolerance."""


class DataFaults(FacetrainError):
    """A data set in which `check` has found errors; its report names them."""
