"""The demo's images: a pattern of tiles in two colours derived from the prompt, as a PNG of a few hundred bytes.

https://www.w3.org/TR/png-3/
"""

import hashlib
import struct
import zlib

TILES = 8
USUAL, LEAST, MOST = (256, 256), 16, 4096


def picture(prompt: str, number: int, size: tuple[int, int] = USUAL) -> bytes:
    """The PNG for a prompt, the same each time; images of another number differ. Width and height are in pixels."""
    width, height = (min(max(each, LEAST), MOST) for each in size)
    digest = hashlib.sha256(f"{number} {prompt}".encode("utf-8", "surrogatepass")).digest()
    dark, light = bytes(each // 2 for each in digest[:3]), bytes(255 - each // 3 for each in digest[3:6])
    # The digest gives half of each row of tiles, and the other half mirrors it.
    tiles = [[digest[6 + row] >> min(at, TILES - 1 - at) & 1 for at in range(TILES)] for row in range(TILES)]
    lines = [b"\0" + _line(row, width) for row in tiles]
    pixels = b"".join(lines[y * TILES // height] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)  # one bit a pixel, from a palette
    chunks = ((b"IHDR", header), (b"PLTE", light + dark), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _line(tiles: list[int], width: int) -> bytes:
    bits = "".join(str(tiles[x * TILES // width]) for x in range(width))
    bits += "0" * (-width % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
