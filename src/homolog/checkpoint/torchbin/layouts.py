"""The two layouts of torch.save: a zip archive of pickle and storages, and, before torch 1.6, a run of pickles with the storages after."""

from __future__ import annotations

from homolog.checkpoint.extent import Extent
from homolog.checkpoint.source import Source
from homolog.checkpoint.torchbin.archive import Archive
from homolog.checkpoint.torchbin.feed import Feed
from homolog.checkpoint.torchbin.machine import run_pickle
from homolog.checkpoint.torchbin.objects import Storage
from homolog.checkpoint.torchbin.state import PlacedStorage, flatten_state, place_tensor
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["LEGACY_MAGIC", "read_torch_legacy", "read_torch_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of the old layout holds."""
_LEGACY_PROTOCOL = 1001
_LONGEST_PICKLE = 32 << 20
_MOST_KEYS = 200_000


def read_torch_zip(source: Source, archive: Archive | None = None) -> tuple[dict[str, Extent], list[str]]:
    """The tensors of the zip layout by name, and notes; storages stay where they are. ``archive`` is its directory, if it is read already.

    Raises ``UnsafeCheckpoint`` where unpickling could run code, ``UnsupportedFormat`` for other archives and byte orders, and
    ``MalformedCheckpoint`` for the rest.
    """
    archive = archive or Archive(source)
    roots = [
        name[: -len("data.pkl")] for name in archive.members if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if len(roots) != 1:
        found = f"a zip archive with {len(roots)} pickles named data.pkl"
        raise UnsupportedFormat(source.path, at="zip archive", found=found, expected="what torch.save writes: one")
    root = roots[0]
    if root + "constants.pkl" in archive.members:
        found = "a TorchScript program"
        raise UnsupportedFormat(
            source.path, at="zip archive", found=found, expected="a state_dict saved with torch.save"
        )
    order = archive.members.get(root + "byteorder")
    if order is not None and (endian := archive.read(order, 64)) != b"little":
        raise UnsupportedFormat(source.path, at="byteorder", found=f"{endian!r}", expected="little-endian numbers")
    pickled = archive.read(archive.members[root + "data.pkl"], _LONGEST_PICKLE)
    tensors, notes = flatten_state(run_pickle(Feed.of_bytes(pickled, source)).value, source)
    storages: dict[str, PlacedStorage] = {}
    for name, tensor in tensors.items():
        key = tensor.storage.key
        if key in storages:
            continue
        member = archive.members.get(f"{root}data/{key}")
        if member is None:
            raise MalformedCheckpoint(
                source.path, at=f"tensor {name}", found=f"no member data/{key!r}", expected="its storage"
            )
        if member.method:
            found = "deflated numbers"
            raise UnsupportedFormat(
                source.path, at=f"member {member.name}", found=found, expected="stored ones, as torch.save writes"
            )
        storages[key] = PlacedStorage(archive.locate(member), member.size)
    return {name: place_tensor(name, tensor, storages, source) for name, tensor in tensors.items()}, notes


def read_torch_legacy(source: Source) -> tuple[dict[str, Extent], list[str]]:
    """The tensors of the layout before torch 1.6 by name, and notes; same errors as `read_torch_zip`."""
    feed = Feed(source, 0, _LONGEST_PICKLE)
    if run_pickle(feed).value != LEGACY_MAGIC:
        raise UnsupportedFormat(
            source.path, at="first pickle", found="a pickle that is not torch's", expected="what torch.save writes"
        )
    if run_pickle(feed).value != _LEGACY_PROTOCOL:
        raise feed.malformed("another protocol", f"protocol {_LEGACY_PROTOCOL}")
    system = run_pickle(feed).value
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsupportedFormat(
            source.path, at="system information", found="no word of it", expected="little-endian numbers"
        )
    pickled = run_pickle(feed)
    tensors, notes = flatten_state(pickled.value, source)
    keys = run_pickle(feed).value
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise feed.malformed("no list of storage keys", "the keys, in the order in which the storages follow")
    storages = _walk_storages(source, feed.position, keys, pickled.storages)
    for name, tensor in tensors.items():
        if tensor.storage.key not in storages:
            found = f"no storage {tensor.storage.key!r}"
            raise MalformedCheckpoint(
                source.path, at=f"tensor {name}", found=found, expected="every storage in the list of keys"
            )
    return {name: place_tensor(name, tensor, storages, source) for name, tensor in tensors.items()}, notes


def _walk_storages(
    source: Source, place: int, keys: list[object], known: dict[str, Storage]
) -> dict[str, PlacedStorage]:
    """The storages lie one after another, each after its count; only the pickle knows how wide its numbers are."""
    storages: dict[str, PlacedStorage] = {}
    for key in keys:
        storage = known.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in storages:
            raise MalformedCheckpoint(
                source.path,
                at=f"byte {place}",
                found="a key twice, or of no storage in the pickle",
                expected="each storage's key once",
            )
        count = int.from_bytes(source.read(place, 8), "little", signed=True)
        nbytes = count * storage.dtype.itemsize
        if count != storage.root_count or nbytes > source.size - place - 8:
            found = f"a storage of {count} numbers with {source.size - place - 8} bytes to go"
            raise MalformedCheckpoint(
                source.path,
                at=f"byte {place}",
                found=found,
                expected=f"{storage.root_count} of {storage.dtype.itemsize} bytes each",
            )
        storages[storage.key] = PlacedStorage(place + 8, nbytes)
        place += 8 + nbytes
    return storages
