"""Videos and cameras through PyAV: read frame by frame, in bounded memory, and written again with what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.atomic_io import replacing
from fer_cli.core.errors import FerError
from fer_cli.datasets.image_decoding import MAX_PIXELS

_RATE: Final = Fraction(25)


def _library() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise FerError("PyAV is not installed, which reads videos", hint="install 'fer-cli[video]'") from error
    av.logging.set_level(av.logging.PANIC)  # FFmpeg's own words; what matters is raised
    module: ModuleType = av
    return module


def read_video(
    path: Path, every: float | None, *, camera: bool = False
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield number, time in s and pixels (H, W, 3) of a video's frames.

    Args:
        path: the file, or the device of a camera.
        every: seconds between two frames that are yielded, at least; None yields all.
        camera: it is a camera.

    Raises:
        FerError: it cannot be opened, is damaged before its first frame, or has no frame.
    """
    av = _library()
    what = "camera" if camera else "video"
    if camera and not path.exists():
        raise FerError(f"there is no camera {path}", hint="connect one, or give another number: camera:1")
    yielded, due = 0, -np.inf
    try:
        with av.open(str(path), format="v4l2" if camera else None) as container:
            if not container.streams.video:
                raise FerError("the file has no video", hint="give another file", path=path)
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            first: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                seconds = _time(frame, number, stream)
                first = seconds if first is None else first
                time = seconds - first
                if every is not None and time < due - 1e-6:
                    continue
                if frame.width * frame.height > MAX_PIXELS:
                    raise FerError(f"a frame has more than {MAX_PIXELS // 10**6} million pixels", path=path)
                due = time + (every or 0.0)
                yielded += 1
                yield number, time, _upright(frame.to_ndarray(format="rgb24"), frame)
    except FerError:
        raise
    except (av.error.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        after = f" after {yielded:,} frames" if yielded else ""
        raise FerError(f"the {what} cannot be read{after} ({reason})", hint="check it", path=path) from None
    if not yielded:
        raise FerError(f"the {what} has no frame", hint="give another file", path=path)


def _time(frame: Any, number: int, stream: Any) -> float:  # noqa: ANN401 - PyAV's types are optional
    """Return the time of a frame; one that is not told is worked out from the frame rate."""
    if frame.time is not None:
        return float(frame.time)
    return number / float(stream.average_rate or _RATE)


def _upright(pixels: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """Turn a phone's frame as its display matrix says."""
    quarter_turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


class VideoWriter:
    """Writes frames to an MP4 file; one of another size is brought to the first one's."""

    def __init__(self, container: Any) -> None:  # noqa: ANN401
        self._container = container
        self._stream: Any = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], time: float) -> None:
        """Add a frame (H, W, 3) at a time in s; times rise."""
        import av

        if self._stream is None:
            stream = self._container.add_stream("libx264", rate=_RATE)
            stream.width, stream.height = (side - side % 2 for side in pixels.shape[1::-1])
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            self._stream = stream
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(self._stream.width, self._stream.height, format="yuv420p")
        self._last = frame.pts = max(self._last + 1, round(time * 1000))
        frame.time_base = Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is still held."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def writing_video(path: Path) -> Iterator[VideoWriter]:
    """Yield a writer of an MP4 file that takes its place when all was written."""
    av = _library()
    with replacing(path) as part, av.open(str(part), "w", format="mp4") as container:
        writer = VideoWriter(container)
        yield writer
        writer.finish()
