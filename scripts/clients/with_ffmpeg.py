"""ffmpeg and ffprobe over HTTP: a film whose index is at its end, so that it takes ranges."""

import re
from contextlib import contextmanager

from outcome import expect, require
from stage import run

TOOLS = ("ffmpeg", "ffprobe")
SECONDS = 20


@contextmanager
def session(stage):
    film = stage.root / "main/files/film.mp4"
    make_film(film, "libx264", "-preset", "ultrafast", "-crf", "24")
    yield stage, str(film), stage.url("/files/film.mp4")


def make_film(path, *encoder):
    """A film of noise, red in its first half and blue in its second, of several megabytes."""
    half = f"s=320x180:r=25:d={SECONDS // 2}"
    noise = "noise=alls=40:allf=t"
    run(
        *("ffmpeg", "-loglevel", "error", "-y"),
        *("-f", "lavfi", "-i", f"color=red:{half}", "-f", "lavfi", "-i", f"color=blue:{half}"),
        *("-filter_complex", f"[0][1]concat,{noise}", "-pix_fmt", "yuv420p", "-g", "25"),
        *("-c:v", *encoder, path),
    )


def probe(subject):
    """ffprobe says the same of the URL as of the file."""
    _, file, url = subject
    said = [described(source) for source in (file, url)]
    expect("what ffprobe says", said[1], said[0])
    require(b'"codec_name": "h264"' in said[1], "ffprobe says nothing of a film")


def described(source):
    options = ("-loglevel", "error", "-show_streams", "-show_chapters", "-count_packets")
    return run("ffprobe", *options, "-of", "json", source).stdout


def seek(subject):
    """ffmpeg decodes the same frame after a seek, and reads but a part for it."""
    _, file, url = subject
    frames = [frame(source).stdout for source in (file, url)]
    require(frames[0] and frames[1] == frames[0], "the frames differ")
    log = frame(url, "-loglevel", "trace").stderr.decode(errors="replace")
    asked = re.findall(r"^Range: bytes=([1-9]\d*)-", log, re.MULTILINE)
    given = re.findall(r"Content-Range: bytes ([1-9]\d*)-", log)
    require(asked and given == asked, f"asked for bytes from {asked}, given from {given}")
    return f"asked for bytes from 0, {', '.join(asked)}"


def frame(source, *options):
    return run(
        *("ffmpeg", "-nostdin", *options, "-ss", SECONDS * 3 // 4, "-i", source),
        *("-frames:v", "1", "-f", "framemd5", "-"),
    )


CHECKS = (probe, seek)
