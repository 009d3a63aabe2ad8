#!/usr/bin/env python3
"""A PNG photograph becomes a small one: the script of a Service, with Python's standard library alone.

Reads INPUT_FILE_PATH, writes into TMP_OUTPUT_DIR. Exit code 65: this is not a picture that it can read.
"""

import os
import struct
import sys
import zlib
from pathlib import Path

CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by PNG's colour type: grey, RGB, grey + alpha, RGB + alpha
NOT_A_PICTURE = 65


class NotAPictureError(Exception):
    """Says why."""


def chunks(data):
    """(type, body) of each chunk, checksums verified."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise NotAPictureError("not a PNG file")
    place = 8
    while place < len(data):
        if place + 12 > len(data):
            raise NotAPictureError("cut short")
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) < 4 or zlib.crc32(kind + body) != struct.unpack(">I", checksum)[0]:
            raise NotAPictureError(f"damaged {kind!r}")
        yield kind, body
        place += 12 + length


def read_png(data):
    """(width, height, channels, rows of bytes)."""
    header, pixels = None, []
    for kind, body in chunks(data):
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            pixels.append(body)
    if header is None or header[2] != 8 or header[3] not in CHANNELS or header[6] != 0:
        raise NotAPictureError("only PNG with 8 bits a channel, without palette and interlacing")
    width, height, channels = header[0], header[1], CHANNELS[header[3]]
    try:
        raw = zlib.decompress(b"".join(pixels))
    except zlib.error as error:
        raise NotAPictureError(str(error)) from error
    return width, height, channels, list(unfilter(raw, width * channels, height, channels))


def unfilter(raw, stride, height, step):
    """Undo PNG's filters: https://www.w3.org/TR/png/#9Filters."""
    above = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        method, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        if method == 1:
            for i in range(step, stride):
                line[i] = (line[i] + line[i - step]) & 255
        elif method == 2:
            for i in range(stride):
                line[i] = (line[i] + above[i]) & 255
        elif method == 3:
            for i in range(stride):
                left = line[i - step] if i >= step else 0
                line[i] = (line[i] + ((left + above[i]) >> 1)) & 255
        elif method == 4:
            for i in range(stride):
                left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
                line[i] = (line[i] + paeth(left, above[i], corner)) & 255
        yield line
        above = line


def paeth(left, up, corner):
    """The neighbour that is nearest to left + up - corner."""
    estimate = left + up - corner
    a, b, c = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if a <= b and a <= c:
        return left
    return up if b <= c else corner


def shrink(width, height, channels, rows, longest):
    """(width, height, rows), each pixel the mean of those it stands for."""
    factor = max(1, -(-max(width, height) // longest))
    small = []
    for top in range(0, height - factor + 1, factor):
        line = bytearray()
        band = rows[top : top + factor]
        for left in range(0, (width - factor + 1) * channels, factor * channels):
            for channel in range(channels):
                first, last = left + channel, left + factor * channels
                line.append(sum(sum(row[first:last:channels]) for row in band) // (factor * factor))
        small.append(line)
    return len(small[0]) // channels, len(small), small


def write_png(width, height, channels, rows):
    """The bytes of a PNG file."""
    kind = {count: colour for colour, count in CHANNELS.items()}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\x00" + bytes(row) for row in rows), 9)
    parts = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    framed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def main():
    source = Path(os.environ["INPUT_FILE_PATH"])
    try:
        width, height, channels, rows = read_png(source.read_bytes())
    except NotAPictureError as error:
        print(f"{source.name}: {error}", file=sys.stderr)
        return NOT_A_PICTURE
    small = shrink(width, height, channels, rows, int(os.environ.get("LONGEST_SIDE", "160")))
    target = Path(os.environ["TMP_OUTPUT_DIR"]) / f"{source.stem}.png"
    target.write_bytes(write_png(small[0], small[1], channels, small[2]))
    print(f"{source.name}: {width} × {height} -> {small[0]} × {small[1]}, {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
