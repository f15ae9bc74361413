"""Downloads of public sections, from a server on this machine that can misbehave."""

import contextlib
import io
import re
import socket
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_dpvae.datasets import (
    VISIUM_SECTIONS,
    _download,
    _visium,
    fetch_visium,
    get_data_home,
    make_tissue,
)
from sklearn_dpvae.datasets._download import HASHES, discard, download

pooch = pytest.importorskip("pooch")

NAME = "V1_Human_Heart"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files` with Range and If-Range; `server.faults` are used up in turn."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int) and fault >= 400:
            self.send_error(fault)
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start, etag = 0, f'"{hash(content)}"'
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range") == etag and fault != "no ranges":
            start = int(wanted.group(1))
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        if fault != "no etag":
            self.send_header("ETag", f"W/{etag}" if fault == "break off, weak" else etag)
        self.end_headers()
        if fault in ("break off", "break off, weak"):
            body = body[: len(body) // 2]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.faults, server.requests = {}, [], []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def content(server):
    content = bytes(np.random.default_rng(0).integers(256, size=300_000, dtype=np.uint8))
    server.files["/file"] = content
    return content


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def after_breaks(content, n):
    """Bytes that n transfers leave that break off half-way through what is missing."""
    kept = 0
    for _ in range(n):
        arrived = (len(content) - kept) // 2
        kept += arrived - arrived % _download.CHUNK
    return kept


# One file


def test_file_arrives_and_is_not_asked_for_again(server, content, tmp_path):
    target = tmp_path / "new" / "file.h5"
    assert download(f"{server.url}/file", target) == target
    assert target.read_bytes() == content
    assert names(target.parent) == ["file.h5", HASHES]
    assert server.requests[0][1]["User-Agent"] == "sklearn-dpvae"

    download(f"{server.url}/file", target)
    assert len(server.requests) == 1


def test_broken_transfer_is_resumed_within_one_call(server, content, tmp_path):
    server.faults = ["break off", "break off"]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert [headers.get("Range") for _, headers in server.requests] == [
        None,
        f"bytes={after_breaks(content, 1)}-",
        f"bytes={after_breaks(content, 2)}-",
    ]


def test_transfer_that_keeps_breaking_is_resumed_by_the_next_call(server, content, tmp_path):
    server.faults = ["break off"] * (_download.RETRIES + 1)
    kept = after_breaks(content, _download.RETRIES + 1)
    with pytest.raises(ConnectionError, match=rf"cannot download .*{kept:,} bytes are kept"):
        download(f"{server.url}/file", tmp_path / "file")
    assert names(tmp_path) == ["file.part", "file.part.json"]

    server.requests.clear()
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert names(tmp_path) == ["file", HASHES]
    assert server.requests[0][1]["Range"] == f"bytes={kept}-"


def test_file_that_changed_meanwhile_is_fetched_anew(server, content, tmp_path):
    server.faults = ["break off"] * (_download.RETRIES + 1)
    with pytest.raises(ConnectionError):
        download(f"{server.url}/file", tmp_path / "file")
    server.files["/file"] = content[::-1]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content[::-1]


@pytest.mark.parametrize("fault", ["no etag", "no ranges"])
def test_server_that_cannot_resume(server, content, tmp_path, fault):
    (tmp_path / "file.part").write_bytes(content[:1000])
    server.faults = [fault]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert len(server.requests) == 1


def test_file_that_may_have_changed_is_not_resumed(server, content, tmp_path):
    server.faults = ["break off, weak"]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert "Range" not in server.requests[1][1]


def test_size_is_checked_whatever_the_http_library_does(tmp_path):
    """Older releases of urllib3 take a short answer for a whole one."""
    requests = pytest.importorskip("requests")
    short = SimpleNamespace(
        status_code=200, headers={"Content-Length": "10"}, iter_content=lambda size: [b"1234"]
    )
    downloader = _download._Downloader(requests, tmp_path / "file.part", verbose=False)
    with pytest.raises(requests.ConnectionError, match="4 of 10 bytes arrived"):
        downloader._copy(short)


def test_without_a_length_the_end_is_the_end(server, content, tmp_path):
    server.faults = ["no length"]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


def test_part_longer_than_the_file_is_thrown_away(server, content, tmp_path):
    server.faults = ["break off"] * (_download.RETRIES + 1)
    with pytest.raises(ConnectionError):
        download(f"{server.url}/file", tmp_path / "file")
    with open(tmp_path / "file.part", "ab") as file:
        file.write(bytes(300_000))
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


def test_busy_server_is_asked_again(server, content, tmp_path):
    server.faults = [503, 429]
    download(f"{server.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


def test_file_that_is_not_there(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file http://127.*/other \(status 404\)"):
        download(f"{server.url}/other", tmp_path / "file")
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_refusal(server, content, tmp_path):
    server.faults = [403]
    with pytest.raises(OSError, match=r"refused .*/file \(status 403"):
        download(f"{server.url}/file", tmp_path / "file")


def test_offline_says_where_to_put_the_file(tmp_path, server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(ConnectionError, match=r"cannot download http.*Check the net.*file\.h5\."):
        download(url, tmp_path / "file.h5")
    assert names(tmp_path) == []


def test_silent_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "TIMEOUT", 0.05)
    monkeypatch.setattr(_download, "RETRIES", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(ConnectionError, match=r"cannot download .*timed out"):
            download(url, tmp_path / "file")


@pytest.mark.parametrize("fault", [None, "no length"])
def test_a_file_beyond_all_sizes_is_refused(server, content, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(_download, "LARGEST", 100_000)
    server.faults = [fault] * 9
    with pytest.raises(OSError, match="100,000"):
        download(f"{server.url}/file", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    if fault is None:
        assert not (tmp_path / "file.part").exists()


@pytest.mark.parametrize("hops", [["https://a/f", "http://b/f"], ["http://b/f", "https://a/f"]])
def test_a_redirection_to_plain_http_is_refused(hops):
    first, last = (SimpleNamespace(url=url, history=[]) for url in hops)
    last.history = [first]
    downloader = _download._Downloader(None, None, False)
    with pytest.raises(OSError, match="sent https://a/f on to http://b/f, which is not https"):
        downloader._check_scheme("https://a/f", last)
    downloader._check_scheme("http://b/f", last)
    last.url = first.url = "https://a/f"
    downloader._check_scheme("https://a/f", last)


def test_progress_goes_to_stderr(server, content, tmp_path, capsys):
    download(f"{server.url}/file", tmp_path / "file.h5", verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"file\.h5: 100%.*300k/300k", err)
    download(f"{server.url}/file", tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")


def test_damaged_file_is_replaced_by_the_one_that_first_arrived(server, content, tmp_path):
    target = tmp_path / "file"
    download(f"{server.url}/file", target)
    target.write_bytes(content[:-1] + b"?")
    download(f"{server.url}/file", target)
    assert target.read_bytes() == content
    assert len(server.requests) == 2


def test_another_file_in_place_of_the_first_is_refused(server, content, tmp_path):
    target = tmp_path / "file"
    download(f"{server.url}/file", target)
    target.unlink()
    server.files["/file"] = content[::-1]
    with pytest.raises(ValueError, match=rf"not the file .* delete .*{HASHES}"):
        download(f"{server.url}/file", target)
    assert names(tmp_path) == [HASHES]

    (tmp_path / HASHES).unlink()
    assert download(f"{server.url}/file", target).read_bytes() == content[::-1]


def test_file_saved_by_hand_is_taken_as_it_is(server, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"from another machine")
    download(f"{server.url}/file", target)
    assert server.requests == []
    assert names(tmp_path) == ["file", HASHES]


def test_discarded_file_may_come_back_as_another(server, content, tmp_path):
    for name in ("file", "other"):
        download(f"{server.url}/file", tmp_path / name)
    discard(tmp_path / "file")
    server.files["/file"] = content[::-1]
    assert download(f"{server.url}/file", tmp_path / "file").read_bytes() == content[::-1]
    (tmp_path / "other").unlink()
    with pytest.raises(ValueError, match="not the file"):
        download(f"{server.url}/file", tmp_path / "other")


def test_loggers_of_pooch_keep_their_level(server, content, tmp_path, capsys):
    level = pooch.get_logger().level
    download(f"{server.url}/file", tmp_path / "file")
    assert pooch.get_logger().level == level


# Sections


def archive(files):
    """A .tar.gz of the given texts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def heart(server, tmp_path_factory, monkeypatch):
    """A tissue that the server offers as if it were a section of 10x Genomics."""
    pytest.importorskip("h5py")
    from test_datasets_readers import write_h5

    tissue = make_tissue(30, 8, random_state=0)
    path = tmp_path_factory.mktemp("heart") / "matrix.h5"
    write_h5(path, tissue.X, tissue.genes, tissue.obs_names)
    rows = [
        f"{name},1,0,0,{y!r},{x!r}"
        for name, (x, y) in zip(tissue.obs_names, tissue.coords.tolist(), strict=True)
    ]
    prefix = f"/1.1.0/{NAME}/{NAME}_"
    server.files[f"{prefix}filtered_feature_bc_matrix.h5"] = path.read_bytes()
    server.files[f"{prefix}spatial.tar.gz"] = archive(
        {
            "spatial/tissue_positions_list.csv": "\n".join(rows),
            "spatial/scalefactors_json.json": "",
        }
    )
    server.prefix = prefix
    monkeypatch.setattr(_visium, "BASE_URL", server.url)
    return tissue


def test_names_are_those_that_scanpy_knows():
    datasets = pytest.importorskip("scanpy.datasets._datasets")
    import ast
    import inspect

    # The names are in a Literal that exists for type checkers only.
    tree = ast.parse(inspect.getsource(datasets))
    (literal,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VisiumSampleID"
    )
    assert ast.literal_eval(literal.slice) == VISIUM_SECTIONS
    assert len(set(VISIUM_SECTIONS)) == 27


def test_section_is_fetched_read_and_kept(heart, server, tmp_path):
    section = fetch_visium(NAME, data_home=tmp_path, verbose=False)
    np.testing.assert_array_equal(section.X.toarray(), heart.X.toarray())
    np.testing.assert_array_equal(section.coords, heart.coords)
    assert set(section.sections) == {NAME}
    folder = tmp_path / "visium" / NAME
    assert names(folder) == ["filtered_feature_bc_matrix.h5", HASHES, "spatial"]

    n_requests = len(server.requests)
    server.files.clear()
    again = fetch_visium(NAME, data_home=tmp_path, verbose=False)
    assert len(server.requests) == n_requests
    np.testing.assert_array_equal(again.coords, heart.coords)


def test_section_arrives_over_a_line_that_breaks(heart, server, tmp_path):
    counts = server.files[f"{server.prefix}filtered_feature_bc_matrix.h5"]
    # Long enough that a part of it arrives.
    server.files[f"{server.prefix}filtered_feature_bc_matrix.h5"] = counts + bytes(200_000)
    server.faults = ["break off", "break off", None, "break off", None]
    section = fetch_visium(NAME, data_home=tmp_path, verbose=False)
    np.testing.assert_array_equal(section.coords, heart.coords)
    np.testing.assert_array_equal(section.X.toarray(), heart.X.toarray())
    ranges = [headers["Range"] for _, headers in server.requests if "Range" in headers]
    assert len(ranges) >= 2 and ranges[0] != ranges[1]
    # What came in pieces is the file that the server has, by which later ones are judged.
    (tmp_path / "visium" / NAME / "filtered_feature_bc_matrix.h5").unlink()
    server.files[f"{server.prefix}filtered_feature_bc_matrix.h5"] = counts
    with pytest.raises(ValueError, match="is not the file that was downloaded"):
        fetch_visium(NAME, data_home=tmp_path, verbose=False)


def test_later_versions_are_asked_for(heart, server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/1\.2\.0/Parent_Visium_Human_Cerebellum/Parent"):
        fetch_visium("Parent_Visium_Human_Cerebellum", data_home=tmp_path)


def test_environment_names_the_data_home(heart, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SKLEARN_DPVAE_HOME", str(tmp_path / "home"))
    fetch_visium(NAME)
    assert (tmp_path / "home" / "visium" / NAME / "spatial").is_dir()
    err = capsys.readouterr().err
    assert "filtered_feature_bc_matrix.h5: " in err and "spatial.tar.gz: " in err


def test_data_home(monkeypatch, tmp_path):
    monkeypatch.delenv("SKLEARN_DPVAE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert get_data_home() == tmp_path / "sklearn_dpvae_data"
    assert get_data_home("~/x") == tmp_path / "x"
    assert not get_data_home().exists()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name='heart'.*V1_Human_Heart.*ColorectalCancer"):
        fetch_visium("heart")


@pytest.mark.parametrize("damage", ["text", "truncated", "no folder", "escapes"])
def test_damaged_archive_is_removed(heart, server, tmp_path, damage):
    url = f"{server.prefix}spatial.tar.gz"
    good = server.files[url]
    server.files[url] = {
        "text": b"<html>",
        "truncated": good[:-20],
        "no folder": archive({"other": ""}),
        "escapes": archive({"../evil": "x"}),
    }[damage]
    with pytest.raises(ValueError, match=r"spatial\.tar\.gz is damaged .* Call again"):
        fetch_visium(NAME, data_home=tmp_path, verbose=False)
    assert names(tmp_path / "visium" / NAME) == ["filtered_feature_bc_matrix.h5", HASHES]
    server.files[url] = good
    fetch_visium(NAME, data_home=tmp_path, verbose=False)


def test_damaged_counts_are_removed(heart, server, tmp_path):
    url = f"{server.prefix}filtered_feature_bc_matrix.h5"
    good = server.files[url]
    server.files[url] = good[:1000]
    with pytest.raises(ValueError, match="not a readable 10x"):
        fetch_visium(NAME, data_home=tmp_path, verbose=False)
    server.files[url] = good
    fetch_visium(NAME, data_home=tmp_path, verbose=False)


@pytest.mark.parametrize("package", ["h5py", "pooch"])
def test_without_a_package_nothing_is_downloaded(heart, server, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}.*sklearn-dpvae\[fetch\]"):
        fetch_visium(NAME, data_home=tmp_path)
    assert server.requests == []
