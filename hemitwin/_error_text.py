"""What a library says of a file it cannot read, fit to stand in one line of a message."""

import re

__all__ = ["error_text"]

_BYTES = re.compile(r"""\bb(['"])(?:\\.|(?!\1).)*\1""")
_LONGEST = 300


def error_text(error: BaseException) -> str:
    r"""Say in one line of text what an exception says.

    Parameters
    ----------
    error : BaseException
        Also of a library, whose text may have several lines or print the bytes of a file.

    Returns
    -------
    str
        The reason alone of an error of the operating system, and the name of the exception where
        its text says nothing without it.

    Examples
    --------
    >>> error_text(OSError(2, "No such file or directory", "scan.nii"))
    'No such file or directory'
    >>> error_text(ValueError("the magic string is not correct; got b'\\x01'"))
    'the magic string is not correct; got other bytes'
    >>> error_text(KeyError("threshold"))
    "KeyError: 'threshold'"
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = _BYTES.sub("other bytes", " ".join(str(error).split()))
    text = "".join(one if one.isprintable() else "\ufffd" for one in text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    name = type(error).__name__
    if isinstance(error, (LookupError, TypeError, AttributeError)) or not text:
        text = f"{name}: {text}" if text else name
    return text
