"""Where the model runs and in which number format. Loads torch alone, so that it can be asked without a model."""

import sys
from dataclasses import dataclass

import torch

from colbert_mcp.config import ModelConfig
from colbert_mcp.errors import EncoderError

_BATCH_TOKENS = {"cpu": 4096, "cuda": 16_384, "mps": 4096}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the settings come to here: ``device`` is cpu, cuda or mps; the reasons are fit to stand in brackets."""

    device: str
    device_why: str
    dtype: str
    dtype_why: str
    bfloat16: bool
    threads: int
    batch_tokens: int
    int8_why: str


def hardware(config: ModelConfig) -> Hardware:
    """The device and number format that the model would get; raises EncoderError for a device that is not there."""
    device = choose_device(config.device)
    dtype = str(choose_dtype(config.dtype, device)).removeprefix("torch.")
    fast = _computes_in_bfloat16(device)
    found = {"cpu": "no GPU was found", "cuda": "a GPU was found", "mps": "an Apple GPU was found"}[device]
    computes = "the processor computes in bfloat16" if fast else "the processor does not compute in bfloat16"
    usual = computes if device == "cpu" else "half precision" if device == "cuda" else "full precision on Apple GPUs"
    return Hardware(
        device=device,
        device_why=found if config.device == "auto" else "[model] device",
        dtype=dtype,
        dtype_why=usual if config.dtype == "auto" else "[model] dtype",
        bfloat16=fast,
        threads=config.threads or torch.get_num_threads(),
        batch_tokens=choose_batch_tokens(config.batch_tokens, device),
        int8_why="the processor computes in int8" if computes_in_int8() else "the processor does not compute in int8",
    )


def choose_device(wanted: str) -> str:
    """``auto`` is cuda, else mps, else cpu; raises EncoderError for a named device that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there[wanted]:
        why = "is built without CUDA" if wanted == "cuda" and torch.version.cuda is None else "finds no GPU of its kind"
        raise EncoderError(
            f'[model] device = "{wanted}" is not available here (torch {torch.__version__} {why}); set it to "auto".'
        )
    return wanted


def choose_dtype(wanted: str, device: str) -> torch.dtype:
    """``auto`` is half precision where the device computes in it, else float32."""
    if wanted != "auto":
        return _DTYPES[wanted]
    if device == "cuda":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float16
    if device == "cpu":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return torch.float32


def choose_batch_tokens(wanted: int, device: str) -> int:
    """Tokens encoded at once, padding included; 0 is what keeps the device busy (ARCHITECTURE.md, A GPU)."""
    return wanted or _BATCH_TOKENS[device]


def computes_in_int8() -> bool:
    """Whether the processor has instructions for int8 products; torch emulates them elsewhere, which is slower."""
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def free_memory(device: str) -> int:
    """Bytes that are free on a device."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return sys.maxsize  # the matrices are there already


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that the device, or the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    told = str(error).lower()
    return "out of memory" in told or "can't allocate memory" in told or "not enough memory" in told


def release_memory(device: str) -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _computes_in_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Without instructions for it, bfloat16 is emulated and slower than float32.
    can = torch.cpu.get_capabilities()
    return device == "cpu" and bool(can.get("avx512_bf16") or can.get("amx_bf16"))
