"""Files that are written whole or not at all. Imports nothing of this package."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: "str | os.PathLike[str]", *, scratch: str | None = None) -> Iterator[Path]:
    """Give the name of a scratch file that takes the place of `path` once the block succeeds.

    An older file at `path` stays as it was if the block fails or is interrupted.

    Parameters
    ----------
    path : path-like
        The file to write.
    scratch : str, optional
        Name of the scratch file. By default that of `path` with the number of the process, so
        that processes do not disturb each other.

    Yields
    ------
    scratch : Path
        Beside `path`, so that both are on one disk, and with the same suffix, which tells many
        writers the format. It does not exist yet.

    Raises
    ------
    OSError
        If the file cannot be written. It names `path`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_dpvae._utils.files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "numbers.txt"
    ...     with replacing(target) as scratch:
    ...         written = scratch.write_text("1 2 3")
    ...     target.read_text()
    '1 2 3'
    """
    path = Path(path)
    beside = path.with_name(scratch or f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        # Without this, a crash of the machine could leave the new name on an empty file.
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        # A full disk names no file, and users do not know the scratch file.
        if error.errno is None or error.filename not in (None, str(beside)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
