"""The slow twin of the safetensors reader: the whole file at once, nothing checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_KINDS: dict[str, Any] = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "BOOL": np.bool_,
}


def read_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors as float32."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        kind = _KINDS.get(entry["dtype"]) or np.dtype(f"<{entry['dtype'][0].lower()}{int(entry['dtype'][1:]) // 8}")
        first, last = entry["data_offsets"]
        with np.errstate(all="ignore"):
            numbers = np.frombuffer(raw[start + first : start + last], dtype=kind).astype(np.float32)
        tensors[name] = numbers.reshape(entry["shape"])
    return tensors
