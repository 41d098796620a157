"""Weights files that others publish as a release: find them, fetch them, and read none whose hash is not the expected.

A file of weights from a release is looked for in ``$FER_WEIGHTS``, then in the user's cache, ``$FER_CACHE/weights``
where that is set; fetched files go into that cache. Beside them stand a hidden lock and, after a kill, a hidden
``.FILE.part`` that the next fetch removes.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from filelock import FileLock, Timeout

from fer_cli.artifacts.atomic_io import make_directory, replacing, sha256_file
from fer_cli.artifacts.protocol import WeightsKind
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.progress import note, track
from fer_cli.weights.catalogue import cache_folder, forbidding
from fer_cli.weights.files import UNKNOWN, WeightsFile, weights_folder

_TIMEOUT: Final = 30.0  # seconds without a byte
_CHUNK: Final = 1 << 18
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Release:
    """A file of weights that somebody else publishes.

    Args:
        file: its name, in the release and on disk.
        url: where it is published, by https.
        size: bytes.
        sha256: of those bytes, as hex in lower case.
        what: the task, the classes and the data that the weights were trained for.
        licence: under which terms they may be used.
        instead: how to do without them, for the errors.
    """

    file: str
    url: str
    size: int
    sha256: str
    what: str
    licence: str = "unknown"
    instead: str = ""

    @property
    def source(self) -> str:
        """The release that publishes it, in words; releases are GitHub's."""
        owner, repository, _releases, _download, tag, _file = self.url.split("/")[3:]
        return f"release {owner}/{repository} {tag}"


BISENET: Final = Release(
    file="parsing_bisenet.pth",
    url="https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth",
    size=53_289_463,
    sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
    what="face parsing, 19 classes, CelebAMask-HQ",
    licence="non-commercial research",  # CelebAMask-HQ's terms
    instead="--parser compact needs no download",
)
"""BiSeNet (Yu et al. 2018) for faces: the weights of zllrunning/face-parsing.PyTorch, as facexlib publishes them."""

_CROPS: Final = "--no-align uses images as face crops"
RETINAFACE_MOBILENET: Final = Release(
    file="detection_mobilenet0.25_Final.pth",
    url="https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_mobilenet0.25_Final.pth",
    size=1_789_735,
    sha256="38ec7bb3c9cbfe2f40edabc05fab970a6d648747cbc534092be85d5eb9b37ed0",
    what="face detection with five landmarks, WIDER FACE",
    licence="MIT",
    instead=_CROPS,
)
"""RetinaFace (Deng et al. 2020), MobileNet 0.25: biubug6/Pytorch_Retinaface's weights, as facexlib publishes them."""
RETINAFACE_RESNET50: Final = Release(
    file="detection_Resnet50_Final.pth",
    url="https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
    size=109_497_761,
    sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    what="face detection with five landmarks, WIDER FACE",
    licence="MIT",
    instead=_CROPS,
)
"""The same with ResNet50: 60 times the size, for small, turned and covered faces."""
RELEASES: Final = {
    "bisenet": BISENET,
    "retinaface-mobile0.25": RETINAFACE_MOBILENET,
    "retinaface-resnet50": RETINAFACE_RESNET50,
}
"""Networks that start from a release, by fer's name."""


def find_release(release: Release, wanted: str | None, sha256: str | None, *, fetch: bool) -> WeightsFile | None:
    """Return a release's weights; None where there are none on this machine and none are to be fetched.

    Looked for in this order: ``wanted``, ``$FER_WEIGHTS``, the cache, and where ``fetch`` is set the release itself.
    The hash of what is found is checked before anything else reads it.

    Args:
        release: the published file, with the hash that is expected.
        wanted: path of a file to take instead (``--weights``).
        sha256: hash to expect instead of the published one (``--weights-sha256``), in either case.
        fetch: whether to download.

    Raises:
        UsageError: ``sha256`` is no SHA-256.
        FerError: there is no such file, its hash is another one, or it cannot be fetched.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--weights-sha256 {sha256!r} is not a SHA-256", hint="give 64 hex digits, as sha256sum does")
    expected = release.sha256 if sha256 is None else sha256.lower()
    cache = cache_path(release)
    kind: WeightsKind = "release"
    if (found := _given(wanted) or _in_folder(release)) is not None:
        path, source, kind = found
    elif cache.is_file():
        path, source = cache, release.url
    elif not fetch:
        return None
    elif expected != release.sha256:
        raise FerError(
            f"no weights with sha256 {expected[:16]} are here, and {release.url} has {release.sha256[:16]}",
            hint="give the file by --weights, or leave out --weights-sha256",
        )
    else:
        _fetch(release, cache)
        path, source = cache, release.url
    _check(path, release, expected, cached=kind == "release", told=sha256 is not None)
    return WeightsFile(path, source, release.what if expected == release.sha256 else UNKNOWN, kind)


def cache_path(release: Release) -> Path:
    """Return where a fetched release is kept: ``$FER_CACHE/weights``, else the user's cache folder."""
    return cache_folder() / release.file


def _given(wanted: str | None) -> tuple[Path, str, WeightsKind] | None:
    if wanted is None:
        return None
    path = Path(wanted)
    if not path.is_file():
        raise FerError("no such file", hint="--weights takes a file", path=wanted)
    return path, "file", "file"


def _in_folder(release: Release) -> tuple[Path, str, WeightsKind] | None:
    folder = weights_folder()
    if folder is None:
        return None
    path = folder / release.file
    return (path, "$FER_WEIGHTS", "folder") if path.is_file() else None


def _check(path: Path, release: Release, expected: str, *, cached: bool, told: bool) -> None:
    if (found := sha256_file(path)) == expected:
        return
    fault = f"its sha256 is {found[:16]}, expected {expected[:16]}"
    if not told and (size := path.stat().st_size) < release.size:
        fault += f": it has {size:,} of {release.size:,} bytes, a truncated download"
    if told:
        hint = "give the file that --weights-sha256 belongs to by --weights"
    else:
        mend = "remove it to download it again" if cached else f"download {release.url} again"
        hint = f"{mend}; --weights-sha256 HEX accepts other weights deliberately"
    raise FerError(fault, hint=hint, path=path)


def _fetch(release: Release, path: Path) -> None:
    """Download into ``path``, which appears whole or not at all."""
    if (name := forbidding()) is not None:
        raise FerError(
            f"{release.file} is not on this machine, and ${name} forbids downloading it", hint=_by_hand(release)
        )
    try:
        make_directory(path.parent)
        with _alone(path):
            if path.is_file():  # another process has fetched it meanwhile
                return
            with replacing(path) as part:
                _download(release, part)
    except OSError as error:
        raise FerError(
            f"cannot be written ({error.strerror or error})",
            hint=f"it takes {_megabytes(release.size)} MB there; $FER_CACHE sets another location",
            path=path,
        ) from error


def _download(release: Release, part: Path) -> None:
    note(f"downloading {release.url}, {_megabytes(release.size)} MB, into {part.parent}")
    received = 0
    with (
        part.open("xb") as stream,
        track(f"downloading {release.file}", _megabytes(release.size), "MB") as advance,
        closing(_answer(release)) as chunks,
    ):
        for chunk in chunks:
            before, received = received, received + len(chunk)
            if received > release.size:
                raise FerError(f"{release.url} gives more than {release.size:,} bytes", hint=_by_hand(release))
            stream.write(chunk)
            advance(_megabytes(received) - _megabytes(before))
    if received < release.size:
        raise FerError(
            f"{release.url} ended after {received:,} of {release.size:,} bytes",
            hint=f"run the same command again, or {_by_hand(release)}",
        )
    if (found := sha256_file(part)) != release.sha256:
        raise FerError(
            f"{release.url} gives sha256 {found[:16]}, expected {release.sha256[:16]}: nothing was kept",
            hint=_by_hand(release),
        )


def _answer(release: Release) -> Generator[bytes]:
    """Give what the network gives; its faults are told apart from those of the disk here."""
    try:
        yield from _chunks(release.url)
    except urllib.error.HTTPError as error:
        raise _unreachable(release, error) from error
    except urllib.error.URLError as error:  # a shell around the fault itself
        raise _unreachable(release, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(release, error) from error


def _unreachable(release: Release, reason: BaseException | str) -> FerError:
    return FerError(
        f"{release.url} cannot be downloaded ({str(reason) or type(reason).__name__})", hint=_by_hand(release)
    )


def _chunks(url: str) -> Iterator[bytes]:
    opener = urllib.request.build_opener(_OnlyHttps)
    with opener.open(url, timeout=_TIMEOUT) as answer:
        while chunk := answer.read(_CHUNK):
            yield chunk


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        begun = time.monotonic()
        note(f"waiting: another process is downloading {path.name}")
        lock.acquire()
        note(f"waited {time.monotonic() - begun:.0f} s")
    try:
        yield
    finally:
        lock.release()


def _by_hand(release: Release) -> str:
    return (
        f"download {release.url} ({release.size:,} bytes, sha256 {release.sha256}), put it at "
        f"$FER_WEIGHTS/{release.file} or give --weights FILE{release.instead and '; '}{release.instead}"
    )


def _megabytes(size: int) -> int:
    return round(size / _MB)
