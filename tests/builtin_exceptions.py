"""Every exception of Python that a stage could raise, and that takes one text."""

import builtins

EXCEPTIONS = [
    value
    for value in vars(builtins).values()
    if isinstance(value, type)
    and issubclass(value, Exception)
    and not issubclass(value, Warning)
    and value not in (ExceptionGroup, UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
]
