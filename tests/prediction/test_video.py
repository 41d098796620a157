"""Videos: the frames and times that were asked for, in bounded memory, and drawn again."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fer_cli.core.errors import FerError
from fer_cli.prediction.sources import Source, frames
from fer_cli.prediction.video import read_video, writing_video


def film(path: Path, *, count: int, rate: int, shape: tuple[int, int] = (48, 64)) -> Path:
    """Write a film whose frame k is grey of value 6 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        for number in range(count):
            pixels = np.full((*shape, 3), 6 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_come_at_the_times_that_were_asked_for(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", count=20, rate=10)
    every = list(read_video(path, None))
    assert [number for number, _, _ in every] == list(range(20))
    assert [time for _, time, _ in every] == pytest.approx([number / 10 for number in range(20)], abs=1e-3)
    assert all(abs(float(pixels.mean()) - 6 * number) < 6 for number, _, pixels in every)
    assert [number for number, _, _ in read_video(path, 0.5)] == [0, 5, 10, 15]
    assert [number for number, _, _ in read_video(path, 0.25)] == [0, 3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize(("content", "said"), [(b"", "cannot be read"), (b"no film" * 99, "cannot be read")])
def test_what_is_no_film_is_one_frame_with_its_error(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    (frame,) = frames(Source("a.mp4", path, "video"), None)
    assert frame.pixels is None
    assert said in str(frame.error)


def test_a_film_that_is_cut_short_keeps_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", count=40, rate=10, shape=(96, 128))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = list(frames(Source("a.mkv", path, "video"), None))
    assert 0 < sum(frame.pixels is not None for frame in seen) < 40
    assert [frame.number for frame in seen if frame.pixels is not None] == list(
        range(sum(frame.pixels is not None for frame in seen))
    )


def test_a_file_without_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(FerError, match="the file has no video"):
        list(read_video(path, None))


def test_a_drawn_film_has_the_frames_at_their_times_and_one_size(tmp_path: Path) -> None:
    with writing_video(tmp_path / "b.mp4") as writer:
        for number in range(6):
            side = 64 if number < 4 else 32  # a film whose size changes
            writer.add(np.full((side, side, 3), 40 * number, np.uint8), number * 0.5)
    again = list(read_video(tmp_path / "b.mp4", None))
    assert [time for _, time, _ in again] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=2e-3)
    assert {pixels.shape for _, _, pixels in again} == {(64, 64, 3)}
    assert all(abs(float(pixels.mean()) - 40 * number) < 6 for number, (_, _, pixels) in enumerate(again))


def test_a_film_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_video(tmp_path / "b.mp4") as writer:
        writer.add(np.zeros((64, 64, 3), np.uint8), 0.0)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
