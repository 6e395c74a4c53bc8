"""Every error that this package raises on purpose.

ColbertMCPError
├── ConfigError                  a configuration file, option or variable is wrong
├── DocumentError                a file or folder cannot be indexed, read or written
│   ├── UnsupportedFormatError   its format has no reader
│   ├── UnreadableDocumentError  it cannot be read or decoded
│   ├── UnwritableFileError      what a command makes cannot be written to it
│   └── PathNotAllowedError      policy forbids it (roots, credentials)
├── EncoderError                 the model cannot encode
│   └── ModelNotFoundError       the model is not there
├── StoreError                   the index cannot be used
│   ├── IndexNotFoundError       there is none at this path
│   ├── IndexMismatchError       made by another model or format version
│   ├── IndexCorruptError        its files disagree
│   └── IndexLockedError         another process owns it
└── QueryError                   the question cannot be answered
    ├── EmptyQueryError          it holds no text
    └── PassageNotFoundError     no passage has this id

A message says what failed, on which path or value, and how to mend it. It never holds text of an indexed document.
"""

# What mends a damaged index; and that as the end of a message.
REPAIR_COMMAND = "colbert-mcp check --repair"
REPAIR = f"run: {REPAIR_COMMAND}"


class ColbertMCPError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line ends with (one per branch)."""

    exit_code = 1


class ConfigError(ColbertMCPError):
    """A configuration file, option or environment variable is wrong."""

    exit_code = 3


class DocumentError(ColbertMCPError):
    """A file or folder cannot be indexed, read or written."""

    exit_code = 4


class UnsupportedFormatError(DocumentError):
    """The file's format has no reader."""


class UnreadableDocumentError(DocumentError):
    """The file cannot be read or decoded."""


class UnwritableFileError(DocumentError):
    """What a command makes cannot be written to the file."""


class PathNotAllowedError(DocumentError):
    """Policy forbids the path: outside the configured roots, or a credential."""


class EncoderError(ColbertMCPError):
    """The model cannot be loaded or cannot encode."""

    exit_code = 5


class ModelNotFoundError(EncoderError):
    """The model is neither a directory nor in reach on a hub."""


class StoreError(ColbertMCPError):
    """The index cannot be used."""

    exit_code = 6


class IndexNotFoundError(StoreError):
    """There is no index at the path."""


class IndexMismatchError(StoreError):
    """The index was made by another model or another format version."""


class IndexCorruptError(StoreError):
    """The files of the index disagree with its catalogue."""


class IndexLockedError(StoreError):
    """Another process owns the index."""


class QueryError(ColbertMCPError):
    """The question cannot be answered."""

    exit_code = 7


class EmptyQueryError(QueryError):
    """The query holds no text."""


class PassageNotFoundError(QueryError):
    """No passage has the id."""


def error_named(name: str, message: str) -> ColbertMCPError:
    """The error of a class that another process named; the base class for a name that is not known here."""
    waiting = [ColbertMCPError]
    while waiting:
        kind = waiting.pop()
        if kind.__name__ == name:
            return kind(message)
        waiting += kind.__subclasses__()
    return ColbertMCPError(message)
