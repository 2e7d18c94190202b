"""Checksum of a checkpoint, by which damage of it is noticed."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from xxhash import xxh3_64


def snapshot_checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """XXH3 of facts and of names, types, shapes and numbers of tensors, hex.

    Args:
        tensors: Tensors on the CPU, by name; their order does not matter.
        facts: JSON values.
    """
    digest = xxh3_64(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes: NumPy knows no bfloat16.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
