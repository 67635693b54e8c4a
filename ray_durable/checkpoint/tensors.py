"""PyTorch tensors through their memory, so that an unchanged one costs no bytes; torch itself is never imported here.

torch's own reducer writes a tensor's storage as one new `bytes` object each time. Here a storage in the CPU's memory is
handed to the pickler as a buffer, and tensors refer to their storage, so views of one memory stay views of one memory.
Whatever is not plain (another device or layout, quantized, nested, with attributes or hooks) goes by torch's own way.
"""

from __future__ import annotations

import ctypes
import importlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["reducer_of"]


def reducer_of(kind: type) -> Callable[[Any], Any] | None:
    """The reducer for a class of torch's, if that has been imported and this is one that we take."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    if kind is getattr(torch, "Tensor", None):
        return reduce_tensor
    return reduce_storage if kind is getattr(torch, "UntypedStorage", None) else None


def is_plain(tensor: Any) -> bool:
    torch: Any = sys.modules["torch"]
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and not tensor.__dict__
        and not tensor._backward_hooks
        and tensor.untyped_storage() is tensor.untyped_storage()  # else a pickle would take it for several
    )


def reduce_tensor(tensor: Any) -> Any:
    if not is_plain(tensor):
        return tensor.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    place = tensor.storage_offset(), tuple(tensor.size()), tensor.stride()
    return rebuild_tensor, (tensor.untyped_storage(), tensor.dtype, *place, tensor.requires_grad)


def rebuild_tensor(
    storage: Any, dtype: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool
) -> Any:
    torch: Any = importlib.import_module("torch")

    tensor: Any = torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)
    return tensor.requires_grad_() if requires_grad else tensor


def reduce_storage(storage: Any) -> Any:
    if storage.device.type != "cpu":
        return storage.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if not storage.nbytes():
        return rebuild_storage, (b"",)
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    return rebuild_storage, (pickle.PickleBuffer(memory),)


def rebuild_storage(data: Any) -> Any:
    """A storage of its own: one over `data` could not be resized."""
    torch: Any = importlib.import_module("torch")

    storage: Any = torch.UntypedStorage(len(data))
    ctypes.memmove(storage.data_ptr(), (ctypes.c_char * len(data)).from_buffer_copy(data), len(data))
    return storage
