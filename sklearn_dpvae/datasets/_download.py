"""Download a file with pooch: resumed where it broke off, checked, and recognized later.

May import `_utils`.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .._utils.files import replacing
from .._utils.optional import import_optional

CHUNK = 1 << 13  # Bytes read at a time. A broken transfer loses less than this.
RETRIES = 3
TIMEOUT = 30.0  # Seconds without a byte.
LARGEST = 4 << 30  # Bytes of a file; a server cannot fill the disk.

# The hashes of the files of a folder, as they were when they first arrived.
HASHES = "sha256.json"


def download(url: str, target: Path, *, verbose: bool = False) -> Path:
    """Download a file unless it is there already.

    While the file arrives it is called ``<target>.part``. A later call continues it, if the file
    on the server is still the same. The SHA-256 hash of a complete file is kept beside it. A
    later call compares the file with its hash, and replaces a file that was damaged.

    Parameters
    ----------
    url : str
        Where the file is.
    target : Path
        Where it goes. Folders are created as needed.
    verbose : bool, default=False
        Whether to show progress on stderr.

    Returns
    -------
    target : Path

    Raises
    ------
    ConnectionError
        If the server cannot be reached, or the transfer breaks off again and again.
    FileNotFoundError
        If the server has no such file.
    ValueError
        If the server's file is not the one that was downloaded before.
    OSError
        If the server refuses, redirects from https to http or sends too much, or the file cannot
        be written.
    ImportError
        If a package of the extra ``fetch`` is missing.
    """
    pooch = import_optional("pooch", extra="fetch", purpose="downloading a file")
    requests = import_optional("requests", extra="fetch", purpose="downloading a file")
    hashes = _hashes(target.parent)
    known = hashes.get(target.name)
    fetcher = pooch.create(
        target.parent,
        base_url="",
        registry={target.name: known},
        urls={target.name: url},
        retry_if_failed=RETRIES,
    )
    part = _part(target)
    try:
        with _quiet(pooch.get_logger()):
            fetcher.fetch(target.name, downloader=_Downloader(requests, part, verbose))
    except requests.RequestException as error:
        kept = part.stat().st_size if part.exists() else 0
        raise ConnectionError(
            f"cannot download {url} ({error}). Check the network and call again: {kept:,} bytes "
            f"are kept in {part}. Or download the file on another machine and save it as {target}."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{url} is not the file that was downloaded before ({error}). To accept the new one, "
            f"delete {target.parent / HASHES}."
        ) from error
    if known is None:
        _write_hashes(target.parent, hashes | {target.name: pooch.file_hash(str(target))})
    return target


def discard(target: Path) -> None:
    """Delete a downloaded file and its hash, so that the next call accepts any file.

    Parameters
    ----------
    target : Path
        The file.
    """
    target.unlink(missing_ok=True)
    hashes = _hashes(target.parent)
    if hashes.pop(target.name, None) is not None:
        _write_hashes(target.parent, hashes)


class _Downloader:
    """What pooch calls to fetch a file. Its own downloader forgets what a broken transfer left."""

    def __init__(self, requests: Any, part: Path, verbose: bool) -> None:
        self.requests = requests
        self.part = part
        self.verbose = verbose

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        # The bytes of the file as it is, and not compressed for the transfer.
        headers = {"User-Agent": "sklearn-dpvae", "Accept-Encoding": "identity"}
        headers |= self._range()
        with self.requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            self._check_scheme(url, response)
            self._check_status(response)
            self._copy(response)
        os.replace(self.part, output_file)
        _validator(self.part).unlink(missing_ok=True)

    def _range(self) -> dict[str, str]:
        """Headers that ask for the rest of the file, if the server's file is unchanged."""
        try:
            start = self.part.stat().st_size
            validator = json.loads(_validator(self.part).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        # A weak validator (W/...) does not promise equal bytes.
        if not start or not validator or validator.startswith("W/"):
            return {}
        return {"Range": f"bytes={start}-", "If-Range": validator}

    def _check_scheme(self, url: str, response: Any) -> None:
        """Refuse a redirection from https to what anyone on the way can change."""
        hops = [*(hop.url for hop in response.history), response.url]
        plain = [hop for hop in hops if not hop.lower().startswith("https:")]
        if url.lower().startswith("https:") and plain:
            raise OSError(f"the server sent {url} on to {plain[0]}, which is not https. Refused.")

    def _check_status(self, response: Any) -> None:
        """Raise what pooch retries if trying again may help, and another error if not."""
        status = response.status_code
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise FileNotFoundError(f"the server has no file {response.url} (status {status}).")
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.part.unlink()  # There is nothing to continue: start over.
        elif status != HTTPStatus.TOO_MANY_REQUESTS and 400 <= status < 500:
            raise OSError(
                f"the server refused {response.url} (status {status}: {response.reason})."
            )
        response.raise_for_status()

    def _copy(self, response: Any) -> None:
        """Write what the server sends, after what is there if the server sends only the rest."""
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        start = self.part.stat().st_size if resumed else 0
        length = response.headers.get("Content-Length")
        size = None if length is None else start + int(length)
        if size is not None and size > LARGEST:
            raise OSError(
                f"{response.url} has {size:,} bytes, more than the {LARGEST:,} that are accepted."
            )
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        _validator(self.part).write_text(json.dumps(validator), encoding="utf-8")
        with (
            open(self.part, "ab" if resumed else "wb") as file,
            tqdm(
                desc=self.part.stem,
                total=size,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=not self.verbose,
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                bar.update(file.write(chunk))
                if file.tell() > LARGEST:
                    raise OSError(
                        f"{response.url} has more than the {LARGEST:,} bytes that are accepted."
                    )
        arrived = self.part.stat().st_size
        if size is not None and arrived != size:
            raise self.requests.ConnectionError(f"{arrived:,} of {size:,} bytes arrived")


def _part(target: Path) -> Path:
    """The name of a file while it arrives."""
    return target.with_name(target.name + ".part")


def _validator(part: Path) -> Path:
    """Where the server's name for the version of a partial file is kept."""
    return part.with_name(part.name + ".json")


def _hashes(folder: Path) -> dict[str, str]:
    """Hashes of the downloaded files of a folder, by name."""
    try:
        return json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _write_hashes(folder: Path, hashes: dict[str, str]) -> None:
    with replacing(folder / HASHES) as scratch:
        scratch.write_text(json.dumps(hashes, indent=2), encoding="utf-8")


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Hide what pooch reports of each file. The progress bar says it."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
