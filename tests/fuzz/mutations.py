"""Damage that knows how a file is built: each takes bytes and a source of randomness, and gives bytes.

What is changed inside a container is sealed again - lengths, checksums - so that it gets past the first check.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]
_NUMBERS = (0, 1, 2, 3, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TAGS = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339, 33421, 33422, 34665)
_TAGS += (
    50706,
    50710,
    50711,
    50712,
    50713,
    50714,
    50715,
    50717,
    50719,
    50720,
    50721,
    50728,
    50829,
    50830,
    51009,
    51041,
)
_VALUES: tuple[Any, ...] = (
    *(None, True, "", "a", "\0", "\ud800", "é" * 300, [], {}, [[]], {"": 0}, [None] * 3, "NaN"),
    *(0, -1, 1, 2, 255, 1 << 31, 1 << 63, -(1 << 63), 10**19, 10**30, 1e-320, 0.5, 1e30, 1e308, -1e308),
    *(float("nan"), float("inf"), -float("inf"), "../../../etc/passwd", "/dev/zero"),
)
_MARK = b"\ncrc32:"  # of a checkpoint: what follows is the checksum of what is before


def mutate(content: bytes, form: str, random: Random) -> bytes:
    """One to four changes, most of them such as the form allows."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change = FORMS[form] if form and random.random() < 0.7 else damage
        try:
            content = change(content, random)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error, zipfile.BadZipFile):
            content = damage(content, random)  # it is damaged already
    return content


def damage(content: bytes, random: Random) -> bytes:
    """Change bits and bytes, write a number, cut, remove, repeat, or move a part."""
    data = bytearray(content or b"\0")
    at, length = random.randrange(len(data)), random.choice((1, 1, 2, 4, 8, 64, 512))
    match random.choice(("bit", "byte", "bytes", "number", "end", "cut", "repeat", "move", "zeros")):
        case "bit":
            data[at] ^= 1 << random.randrange(8)
        case "byte":
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
        case "bytes":
            data[at : at + length] = random.randbytes(length)
        case "number":
            data[at : at + 4] = struct.pack(random.choice("<>") + "I", random.choice(_NUMBERS))
        case "end":
            del data[at:]
        case "cut":
            del data[at : at + length]
        case "repeat":
            data[at:at] = data[at : at + length] * random.choice((1, 2, 50))
        case "move":
            data[at:at] = data[(start := random.randrange(len(data))) : start + length]
        case "zeros":
            data[at : at + length] = bytes(length)
    return bytes(data)


def tiff(content: bytes, random: Random) -> bytes:
    """Change a field of an entry of a directory, put another entry in its place, or change what it points to."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    places = _entries(content, order)
    at = random.choice(places)
    data, place = bytearray(content), struct.unpack_from(order + "I", content, at + 8)[0]
    match random.choice(("tag", "kind", "count", "value", "value", "offset", "other", "lost", "target", "target")):
        case "tag":
            struct.pack_into(order + "H", data, at, random.choice(_TAGS))
        case "kind":
            struct.pack_into(order + "H", data, at + 2, random.randrange(19))
        case "count":
            struct.pack_into(order + "I", data, at + 4, random.choice(_NUMBERS))
        case "value":
            struct.pack_into(order + "I", data, at + 8, random.choice(_NUMBERS))
        case "offset":
            struct.pack_into(order + "I", data, at + 8, random.choice((*places, len(content) - 4, 8)))
        case "other":
            data[at : at + 12] = content[(there := random.choice(places)) : there + 12]
        case "lost":
            struct.pack_into(order + "H", data, at, 65000)
        case "target" if place + 8 <= len(content):
            where = place + 4 * random.randrange(min(8, (len(content) - place) // 4))
            struct.pack_into(order + "I", data, where, random.choice(_NUMBERS))
    return bytes(data)


def _entries(content: bytes, order: str) -> list[int]:
    """Where the entries of all directories begin."""
    found: list[int] = []
    todo, seen = [struct.unpack_from(order + "I", content, 4)[0]], set[int]()
    while todo:
        if (start := todo.pop()) in seen or start + 2 > len(content) or len(seen) > 20:
            continue
        seen.add(start)
        end = start + 2 + 12 * struct.unpack_from(order + "H", content, start)[0]
        for at in range(start + 2, min(end, len(content) - 12), 12):
            found.append(at)
            tag, _, count, place = struct.unpack_from(order + "HHII", content, at)
            if tag in (330, 34665, 34853):
                todo += [place] if count == 1 else struct.unpack_from(f"{order}{min(count, 8)}I", content, place)
        if end + 4 <= len(content):
            todo.append(struct.unpack_from(order + "I", content, end)[0])
    return found


def plain(content: bytes, random: Random) -> bytes:
    """JSON: another value, a lost, renamed or repeated field, or deep nesting."""
    return json.dumps(_changed(json.loads(content), random)).encode()


def _changed(root: Any, random: Random) -> Any:
    holders = _holders(root)
    if not holders:
        return random.choice(_VALUES)
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    match random.choice(("value", "value", "value", "number", "lost", "name", "deep", "list", "swap")):
        case "number" if isinstance(holder[key], int | float):
            holder[key] = holder[key] * random.choice((-1, 0, 0.5, 2, 1000, 10**12))
        case "lost":
            del holder[key]
        case "name" if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case "deep":
            for _ in range(random.choice((1, 70, 900))):
                holder[key] = [holder[key]]
        case "list" if isinstance(holder[key], list):
            holder[key] = holder[key] * random.choice((0, 2, 1000))
        case "swap":
            holder[key] = random.choice(holders)
            if key in _VALUES or _is_cyclic(root):
                holder[key] = None
        case _:
            holder[key] = random.choice(_VALUES)
    return root


def _holders(root: Any) -> list[Any]:
    """All objects and lists that are not empty."""
    found = [root] if isinstance(root, dict | list) and root else []
    for value in root.values() if isinstance(root, dict) else root if isinstance(root, list) else ():
        found += _holders(value)
    return found


def _is_cyclic(root: Any) -> bool:
    try:
        json.dumps(root)
    except ValueError:
        return True
    return False


def safetensors(content: bytes, random: Random) -> bytes:
    """Change the header, JSON inside its metadata, or the numbers; checksums of the header are made anew."""
    end = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:end]), content[end:]
    metadata = header.get("__metadata__", {})
    inner = [name for name, text in metadata.items() if text[:1] in ("{", "[")]
    match random.choice(("header", "inner", "inner", "numbers", "numbers", "length")):
        case "header":
            header = _changed(header, random)
        case "inner" if inner:
            metadata[inner[0]] = json.dumps(_changed(json.loads(metadata[inner[0]]), random))
            if "crc32" in metadata:
                metadata["crc32"] = f"{zlib.crc32(metadata[inner[0]].encode()):08x}"
        case "length":
            return random.choice(_NUMBERS).to_bytes(8, "little") + content[8:]
        case _:
            data = numbers(data, random)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def numbers(data: bytes, random: Random) -> bytes:
    """Write numbers that are none, or huge, where floats may be; sometimes everywhere."""
    value = struct.pack("<f", random.choice((float("nan"), float("inf"), -float("inf"), 3e38, -1e30, 1e-40, 0.0)))
    at = random.randrange(0, max(1, len(data) - 3), 4)
    return value * (len(data) // 4) if random.random() < 0.2 else data[:at] + value + data[at + 4 :]


def npy(content: bytes, random: Random) -> bytes:
    """Change the text of the header, its length, or the numbers."""
    end = 10 + int.from_bytes(content[8:10], "little")
    head, data = content[10:end], content[end:]
    match random.choice(("text", "length", "numbers", "shape")):
        case "text":
            head = damage(head, random)
        case "shape":
            head = head.replace(b"(", random.choice((b"(1, ", b"(-", b"(99999999999, ", b"((", b"")), 1)
        case "length":
            return content[:8] + random.choice(_NUMBERS).to_bytes(4, "little")[:2] + content[10:]
        case _:
            data = numbers(data, random)
    return content[:8] + len(head).to_bytes(4, "little")[:2] + head + data


def archive(content: bytes, random: Random) -> bytes:
    """Change a member of a PyTorch checkpoint (its pickle, most often) and pack it again; with its checksum."""
    whole, mark, _ = content.rpartition(_MARK)
    with zipfile.ZipFile(io.BytesIO(whole if mark else content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    pickles = [name for name in members if name.endswith("data.pkl")]
    name = random.choice(list(members) + 4 * pickles)
    members[name] = damage(members[name], random) if name in pickles else numbers(members[name], random)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return out.getvalue() + (_MARK + b"%08x" % zlib.crc32(out.getbuffer()) if mark else b"")


def png(content: bytes, random: Random) -> bytes:
    """Change a chunk, with its checksum, or leave it out, or have it twice."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append(content[at + 4 : at + 8 + length])
        at += 12 + length
    place = random.randrange(len(chunks))
    match random.choice(("change", "change", "change", "lost", "twice")):
        case "lost":
            del chunks[place]
        case "twice":
            chunks.insert(place, chunks[place])
        case _:
            chunks[place] = chunks[place][:4] + damage(chunks[place][4:], random)
    sealed = (len(c[4:]).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    return content[:8] + b"".join(sealed)


def boxes(content: bytes, random: Random) -> bytes:
    """Change the length, kind or first numbers of a box, at any depth."""
    kinds = (b"ftyp", b"moov", b"uuid", b"CMT1", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"CRAW", b"CMP1", b"stsz")
    places = [content.find(kind) for kind in (*kinds, b"co64", b"mdat") if kind in content]
    at, data = random.choice(places), bytearray(content)
    match random.choice(("length", "kind", "number", "number")):
        case "length":
            struct.pack_into(">I", data, at - 4, random.choice(_NUMBERS))
        case "kind":
            data[at : at + 4] = random.choice(kinds)
        case _:
            struct.pack_into(">I", data, min(at + 4 * random.randrange(1, 12), len(data) - 4), random.choice(_NUMBERS))
    return bytes(data)


FORMS: dict[str, Mutation] = {
    "tiff": tiff,
    "json": plain,
    "safetensors": safetensors,
    "npy": npy,
    "zip": archive,
    "png": png,
    "boxes": boxes,
}
"""How files of a form are changed."""
