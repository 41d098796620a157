"""Weights that others publish: found, checked, fetched, cached."""

from __future__ import annotations

import email.message
import hashlib
import http.client
import io
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import urllib.response
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_cli.core.errors import UsageError
from fer_cli.faces.bisenet import open_bisenet
from fer_cli.faces.parsers import NetworkParser
from fer_cli.faces.regions import grouping
from fer_cli.weights import download
from fer_cli.weights.download import BISENET, RELEASES, Release, cache_path, find_release
from fer_cli.weights.files import WeightsFile
from tests.kits.parsers import refusal, seeded_bisenet, sha

DATA = bytes(range(256)) * 10_000  # 2.56 MB
TOY = Release("toy.pth", "https://example.org/v1/toy.pth", len(DATA), hashlib.sha256(DATA).hexdigest(), "toys")
PIECES = [DATA[start : start + 300_000] for start in range(0, len(DATA), 300_000)]
UNKNOWN = "unknown"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], Iterator[bytes]]], None]:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return lambda chunks: monkeypatch.setattr(download, "_chunks", chunks)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bisenet") / "seeded.pth"
    torch.save(seeded_bisenet().state_dict(), path)
    return path


def opened(path: Path, *, mirror: bool = False, size: int = 64) -> NetworkParser:
    weights = WeightsFile(path, "file", "?")
    return open_bisenet(weights, grouping=grouping(), size=size, mirror=mirror, device="cpu")


# --- the weights: found and checked


def release_of(path: Path) -> Release:
    return Release(path.name, f"https://example.org/{path.name}", path.stat().st_size, sha(path), "seeds")


def test_the_published_files() -> None:
    assert BISENET.url == "https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth"
    assert (BISENET.file, BISENET.size) == ("parsing_bisenet.pth", 53_289_463)
    assert BISENET.sha256 == "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567"
    assert [release.source for release in RELEASES.values()] == [
        f"release xinntao/facexlib {tag}" for tag in ("v0.2.0", "v0.1.0", "v0.1.0")
    ]
    assert [(release.file, release.size, release.sha256[:8]) for release in list(RELEASES.values())[1:]] == [
        ("detection_mobilenet0.25_Final.pth", 1_789_735, "38ec7bb3"),
        ("detection_Resnet50_Final.pth", 109_497_761, "6d1de9c2"),
    ]
    for release in RELEASES.values():
        assert release.url.endswith(f"/{release.file}")
        assert len(release.sha256) == 64


def test_weights_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_release(TOY, None, None, fetch=False) is None
    cached = tmp_path / "cache" / "weights" / "toy.pth"
    assert cache_path(TOY) == cached
    folder = tmp_path / "folder"
    given = tmp_path / "mine.pth"
    for path in (cached, folder / "toy.pth", given):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DATA)
    for fetch in (False, True):
        assert find_release(TOY, None, None, fetch=fetch) == WeightsFile(cached, TOY.url, "toys", "release")
    monkeypatch.setenv("FER_WEIGHTS", str(folder))
    assert find_release(TOY, None, None, fetch=True) == WeightsFile(
        folder / "toy.pth", "$FER_WEIGHTS", "toys", "folder"
    )
    assert find_release(TOY, str(given), None, fetch=True) == WeightsFile(given, "file", "toys")
    (folder / "toy.pth").unlink()
    assert find_release(TOY, None, None, fetch=True) == WeightsFile(cached, TOY.url, "toys", "release")
    monkeypatch.setenv("FER_WEIGHTS", str(given))
    assert "$FER_WEIGHTS is not a folder" in refusal(lambda: find_release(TOY, None, None, fetch=True))
    assert "no such file" in refusal(lambda: find_release(TOY, str(folder), None, fetch=True))
    monkeypatch.delenv("FER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_path(TOY) == tmp_path / "xdg" / "fer" / "weights" / "toy.pth"


def test_no_file_of_another_hash_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bytes(reversed(DATA))
    theirs = hashlib.sha256(other).hexdigest()
    cached, folder, given = cache_path(TOY), tmp_path / "folder" / "toy.pth", tmp_path / "mine.pth"

    def find(sha256: str | None = None, wanted: str | None = None) -> Any:
        return find_release(TOY, wanted, sha256, fetch=True)

    for path, wanted in ((cached, None), (folder, None), (given, str(given))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(other)
        if path == folder:
            monkeypatch.setenv("FER_WEIGHTS", str(folder.parent))
        text = refusal(lambda wanted=wanted: find(wanted=wanted))  # type: ignore[misc]
        assert text.startswith(f"{path}: its sha256 is {theirs[:16]}, expected {TOY.sha256[:16]}; ")
        assert "--weights-sha256 HEX accepts other weights deliberately" in text
        assert ("remove it to download it again" in text) == (path == cached)
        found = find(theirs.upper(), wanted)
        assert (found.path, found.pretraining) == (path, UNKNOWN)
        path.write_bytes(DATA)
        text = refusal(lambda wanted=wanted: find(theirs, wanted))  # type: ignore[misc]
        assert f"its sha256 is {TOY.sha256[:16]}, expected {theirs[:16]}; give the file" in text
    for length in (0, 10, len(DATA) - 1):
        given.write_bytes(DATA[:length])
        assert f"it has {length:,} of 2,560,000 bytes, a truncated download" in refusal(lambda: find(None, str(given)))
    for malformed in ("", theirs[:-1], theirs + "0", theirs[:-1] + "g", f"{theirs}\n", "sha256:" + theirs[7:]):
        text = refusal(lambda malformed=malformed: find(malformed, str(given)), UsageError)  # type: ignore[misc]
        assert "is not a SHA-256; give 64 hex digits" in text


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.sprung)!r}, 'w').close()",)


def test_what_is_no_table_of_tensors_is_refused_and_never_run(checkpoint: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    bad = {name: tmp_path / name for name in ("raw.pth", "zip.pth", "old.pth", "raw.safetensors", "empty.pth")}
    bad |= {name: tmp_path / name for name in ("text.pth", "cut.pth", "list.pth")}
    bad["raw.pth"].write_bytes(pickle.dumps({"a": Trap(sprung)}))
    bad["raw.safetensors"].write_bytes(pickle.dumps({"a": Trap(sprung)}))
    torch.save({"a": Trap(sprung)}, bad["zip.pth"])
    torch.save({"a": Trap(sprung)}, bad["old.pth"], _use_new_zipfile_serialization=False)
    bad["empty.pth"].write_bytes(b"")
    bad["text.pth"].write_text("<html>Not Found</html>\n")
    bad["cut.pth"].write_bytes(checkpoint.read_bytes()[:1_000_000])
    torch.save([torch.zeros(1)], bad["list.pth"])
    for path in bad.values():
        found = find_release(release_of(checkpoint), str(path), sha(path), fetch=False)
        assert found is not None
        assert refusal(lambda path=path: opened(path)).startswith(f"{path}: ")  # type: ignore[misc]
        assert not sprung.exists()
    pickle.loads(bad["raw.pth"].read_bytes())
    assert sprung.exists(), "the trap would not have shown anything"


# --- fetched


@pytest.mark.parametrize("name", ["FER_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_to_fetch_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, online: Callable[..., None], tmp_path: Path, name: str
) -> None:
    online(lambda url: pytest.fail("fetched"))
    monkeypatch.setenv(name, "1")
    text = refusal(lambda: find_release(BISENET, None, None, fetch=True))
    for part in (BISENET.url, "53,289,463 bytes", BISENET.sha256, "$FER_WEIGHTS/parsing_bisenet.pth", "--weights FILE"):
        assert part in text
    assert f"${name} forbids" in text
    assert "--parser compact needs no download" in text
    assert not (tmp_path / "cache").exists()


def test_a_release_is_fetched_once(
    monkeypatch: pytest.MonkeyPatch, online: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    told: list[int] = []

    def chunks(url: str) -> Iterator[bytes]:
        asked.append(url)
        yield from PIECES

    @contextmanager
    def track(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        assert (what, total, unit) == ("downloading toy.pth", 3, "MB")
        yield told.append

    online(chunks)
    monkeypatch.setattr(download, "track", track)
    for _ in range(2):
        assert find_release(TOY, None, None, fetch=True) == WeightsFile(cache_path(TOY), TOY.url, "toys", "release")
    assert asked == [TOY.url]
    assert sum(told) == 3
    assert cache_path(TOY).read_bytes() == DATA
    assert left_over() <= {".toy.pth.lock", "toy.pth"}
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_another_hash_than_the_published_is_not_fetched(online: Callable[..., None]) -> None:
    online(lambda url: pytest.fail("fetched"))
    text = refusal(lambda: find_release(TOY, None, "0" * 64, fetch=True))
    assert f"no weights with sha256 {'0' * 16} are here, and {TOY.url} has {TOY.sha256[:16]}" in text


def left_over() -> set[str]:
    return {path.name for path in cache_path(TOY).parent.iterdir()}


def broken_off(error: BaseException) -> Callable[[str], Iterator[bytes]]:
    def chunks(url: str) -> Iterator[bytes]:
        yield from PIECES[:4]
        raise error

    return chunks


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (lambda url: iter([*PIECES[:-1], bytes(len(PIECES[-1]))]), f"expected {TOY.sha256[:16]}: nothing was kept"),
        (lambda url: iter(PIECES[:-1]), "ended after 2,400,000 of 2,560,000 bytes; run the same command again"),
        (lambda url: iter([*PIECES, b"x"]), "gives more than 2,560,000 bytes"),
        (lambda url: iter(PIECES * 8), "gives more than 2,560,000 bytes"),
        (
            broken_off(TimeoutError("The read operation timed out")),
            "cannot be downloaded (The read operation timed out)",
        ),
        (broken_off(http.client.IncompleteRead(b"")), "cannot be downloaded (IncompleteRead"),
        (broken_off(ConnectionResetError()), "cannot be downloaded (ConnectionResetError)"),
    ],
)
def test_a_failed_fetch_leaves_nothing(
    online: Callable[..., None], chunks: Callable[[str], Iterator[bytes]], words: str
) -> None:
    online(chunks)
    text = refusal(lambda: find_release(TOY, None, None, fetch=True))
    assert text.startswith(TOY.url)
    assert words in text
    assert TOY.sha256 in text
    assert left_over() <= {".toy.pth.lock"}


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_succeeds(online: Callable[..., None]) -> None:
    online(broken_off(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        find_release(TOY, None, None, fetch=True)
    assert left_over() <= {".toy.pth.lock"}
    online(lambda url: iter(PIECES))
    assert find_release(TOY, None, None, fetch=True) is not None


KILLED = """
import os, signal, sys
from fer_cli.weights import download

def chunks(url):
    yield bytes(1_000_000)
    os.kill(os.getpid(), signal.SIGKILL)

assert "torch" not in sys.modules
download._chunks = chunks
download.find_release(download.Release("toy.pth", "https://example.org/", 2_560_000, "", ""), None, None, fetch=True)
"""


def test_a_killed_fetch_leaves_a_hidden_file_that_the_next_one_removes(online: Callable[..., None]) -> None:
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=root, check=False).returncode == -signal.SIGKILL
    assert not cache_path(TOY).exists()
    assert ".toy.pth.part" in left_over()
    assert find_release(TOY, None, None, fetch=False) is None
    online(lambda url: iter(PIECES))
    assert find_release(TOY, None, None, fetch=True) is not None
    assert cache_path(TOY).read_bytes() == DATA
    assert left_over() <= {".toy.pth.lock", "toy.pth"}


def test_two_at_once_fetch_it_once(online: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []
    found: list[WeightsFile | None] = []

    def chunks(url: str) -> Iterator[bytes]:
        asked.append(url)
        for piece in PIECES:
            time.sleep(0.06)
            yield piece

    online(chunks)
    threads = [
        threading.Thread(target=lambda: found.append(find_release(TOY, None, None, fetch=True))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WeightsFile(cache_path(TOY), TOY.url, "toys", "release")] * 3
    assert len(asked) == 1
    assert cache_path(TOY).read_bytes() == DATA
    assert "waiting: another process is downloading toy.pth" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(
    online: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    online(lambda url: iter(PIECES))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        text = refusal(lambda: find_release(TOY, None, None, fetch=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text.startswith(f"{cache_path(TOY)}: cannot be written (File too large); it takes 3 MB there")
    assert "$FER_CACHE sets another location" in text
    assert left_over() <= {".toy.pth.lock"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "file"))
    assert "cannot be written (Not a directory)" in refusal(lambda: find_release(TOY, None, None, fetch=True))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, tuple[int, str] | bytes | Exception], list[str]]:
    """What urllib finds at each address, instead of the network: a status with a new address, a body, or a fault."""
    pages: dict[str, tuple[int, str] | bytes | Exception] = {}
    asked: list[str] = []

    def https_open(_: Any, request: urllib.request.Request) -> Any:
        asked.append(request.full_url)
        assert request.timeout is not None
        assert 0 < request.timeout <= 60
        page = pages[request.full_url]
        if isinstance(page, Exception):
            raise urllib.error.URLError(page)
        code, place = page if isinstance(page, tuple) else (200, "")
        headers = email.message.Message()
        if place:
            headers["Location"] = place
        answer = urllib.response.addinfourl(
            io.BytesIO(page if isinstance(page, bytes) else b"no"), headers, request.full_url, code
        )
        answer.msg = http.client.responses[code]  # type: ignore[attr-defined]
        return answer

    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", https_open)
    monkeypatch.setattr(urllib.request.HTTPHandler, "http_open", lambda *_: pytest.fail("asked by http"))
    return pages, asked


def test_redirects_are_followed_to_https_alone(
    web: tuple[dict[str, tuple[int, str] | bytes | Exception], list[str]],
) -> None:
    pages, asked = web
    pages[TOY.url] = (302, "http://example.org/plain")
    text = refusal(lambda: find_release(TOY, None, None, fetch=True))
    assert "cannot be downloaded (it redirects to http://example.org/plain, which is not https)" in text
    pages[TOY.url] = (302, "https://elsewhere.example.org/file")
    pages["https://elsewhere.example.org/file"] = (301, "/file2")
    pages["https://elsewhere.example.org/file2"] = DATA
    assert find_release(TOY, None, None, fetch=True) is not None
    assert cache_path(TOY).read_bytes() == DATA
    assert asked == [TOY.url, TOY.url, *list(pages)[1:]]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ((404, ""), "cannot be downloaded (HTTP Error 404: Not Found)"),
        ((503, ""), "cannot be downloaded (HTTP Error 503: Service Unavailable)"),
        ((302, "file:///etc/passwd"), "cannot be downloaded (HTTP Error 302: Found"),
        (OSError(-2, "Name or service not known"), "cannot be downloaded ([Errno -2] Name or service not known)"),
        (TimeoutError("timed out"), "cannot be downloaded (timed out)"),
        (b"<html>please log in</html>", "ended after 26 of 2,560,000 bytes"),
    ],
)
def test_faults_of_the_network_are_one_line(
    web: tuple[dict[str, tuple[int, str] | bytes | Exception], list[str]], page: Any, words: str
) -> None:
    web[0][TOY.url] = page
    text = refusal(lambda: find_release(TOY, None, None, fetch=True))
    assert words in text
    assert "$FER_WEIGHTS/toy.pth" in text
    assert left_over() <= {".toy.pth.lock"}


def test_weights_that_were_fetched_open(checkpoint: Path, online: Callable[..., None]) -> None:
    release = release_of(checkpoint)
    online(lambda url: iter([checkpoint.read_bytes()]))
    found = find_release(release, None, None, fetch=True)
    assert found is not None
    parser = open_bisenet(found, grouping=grouping(), size=64, mirror=False, device="cpu")
    expected = {
        "kind": "release",
        "source": release.url,
        "pretraining": "seeds",
        "sha256": release.sha256,
        "file": "seeded.pth",
    }
    assert parser.weights.record() == expected
    assert parser.record()["weights"] == release.sha256
