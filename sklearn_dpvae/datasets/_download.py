"""Download a file: resumed where it broke off, checked for its size, put in place at once.

Imports nothing of this package.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

CHUNK = 1 << 16
ATTEMPTS = 4
TIMEOUT = 30.0  # Seconds without a byte.
PAUSE = 1.0  # Seconds before the second attempt; doubled for each later one.


class _BrokenOffError(OSError):
    """A transfer ended early; what has arrived is kept, and it is worth trying again."""


def download(url: str, target: Path, *, verbose: bool = False) -> Path:
    """Download a file unless it is there already.

    While it arrives it is called ``<target>.part``, which a later call takes up by a Range
    request if the file on the server is still the same. It gets its name only when it has the
    size that the server announced.

    Parameters
    ----------
    url : str
        Where the file is.
    target : Path
        Where it goes; folders are made as needed.
    verbose : bool, default=False
        Whether to report progress on stderr.

    Returns
    -------
    target : Path

    Raises
    ------
    ConnectionError
        If the server cannot be reached, or the transfer keeps breaking off.
    FileNotFoundError
        If the server has no such file.
    OSError
        If the server refuses, or the file cannot be written.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _transfer(url, part, verbose)
        except _BrokenOffError as error:
            reason = error
            continue
        os.replace(part, target)
        _validator_file(part).unlink(missing_ok=True)
        return target
    kept = part.stat().st_size if part.exists() else 0
    raise ConnectionError(
        f"the download of {url} broke off {ATTEMPTS} times ({reason}). {kept:,} bytes are kept in "
        f"{part}; call again to resume."
    ) from reason


def _transfer(url: str, part: Path, verbose: bool) -> None:
    """Fetch what is missing of a file, once."""
    start, headers = _resume(part)
    # Some servers refuse urllib's own name.
    request = urllib.request.Request(url, headers={"User-Agent": "sklearn-dpvae", **headers})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        _raise_status(error, url, part)
    except (TimeoutError, ConnectionResetError, HTTPException) as error:
        raise _BrokenOffError(f"{type(error).__name__}: {error}") from error
    except urllib.error.URLError as error:
        raise ConnectionError(
            f"cannot reach {url} ({error.reason}). Check the network, or download the file on "
            f"another machine and save it as {part.with_suffix('')}."
        ) from error

    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            start = 0  # The server sends all of it: the file is another one by now.
        length = response.headers.get("Content-Length")
        size = None if length is None else start + int(length)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        _validator_file(part).write_text(json.dumps(validator), encoding="utf-8")
        arrived = _copy(response, part, start, size, _Progress(part.stem, size, verbose))
    if size is not None and arrived < size:
        raise _BrokenOffError(f"{arrived:,} of {size:,} bytes arrived")
    if size is not None and arrived > size:
        part.unlink()
        raise _BrokenOffError(f"{arrived:,} bytes arrived where {size:,} were announced")


def _resume(part: Path) -> tuple[int, dict[str, str]]:
    """How much is there, and the headers that ask for the rest if the file is unchanged."""
    start = part.stat().st_size if part.exists() else 0
    try:
        validator = json.loads(_validator_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        validator = None
    # A weak validator (W/...) does not promise equal bytes.
    if start == 0 or not validator or validator.startswith("W/"):
        return 0, {}
    return start, {"Range": f"bytes={start}-", "If-Range": validator}


def _copy(response: Any, part: Path, start: int, size: int | None, progress: Any) -> int:
    """Append what the server sends; returns the size of the file then."""
    arrived = start
    with open(part, "ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, HTTPException) as error:
                raise _BrokenOffError(f"{type(error).__name__}: {error}") from error
            if not chunk:
                break
            file.write(chunk)
            arrived += len(chunk)
            progress.show(arrived)
    progress.close(arrived)
    return arrived


def _raise_status(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """Turn a status that is not success into an error that says what to do."""
    status = error.code
    error.close()
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)  # Nothing to resume there: begin anew.
        raise _BrokenOffError("the server cannot resume") from error
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _BrokenOffError(f"the server answered {status}") from error
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise FileNotFoundError(f"the server has no file {url} (status {status}).") from error
    raise OSError(f"the server refused {url} (status {status}: {error.reason}).") from error


def _validator_file(part: Path) -> Path:
    """Where the server's word for the version of a partial file is kept."""
    return part.with_name(part.name + ".json")


class _Progress:
    """One line on stderr, rewritten as bytes arrive; on a terminal only every tenth second."""

    def __init__(self, name: str, size: int | None, verbose: bool) -> None:
        self.name, self.size, self.verbose = name, size, verbose
        self.interactive = sys.stderr.isatty()
        self.last = 0.0

    def line(self, arrived: int) -> str:
        total = "" if self.size is None else f" of {self.size / 1e6:.1f}"
        return f"{self.name}: {arrived / 1e6:.1f}{total} MB"

    def show(self, arrived: int) -> None:
        if self.verbose and self.interactive and time.monotonic() - self.last > 0.1:
            self.last = time.monotonic()
            print(f"\r{self.line(arrived)}", end="", file=sys.stderr, flush=True)

    def close(self, arrived: int) -> None:
        if self.verbose:
            start = "\r" if self.interactive else ""
            print(start + self.line(arrived), file=sys.stderr)
