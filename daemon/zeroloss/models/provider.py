"""Opens a graph on the execution provider that was asked for, or says why it cannot."""

from __future__ import annotations

from typing import Any, Literal

from .errors import PackageError, ProviderError
from .runtime import import_onnxruntime, preload_gpu_libraries

Provider = Literal["cpu", "cuda", "tensorrt", "auto"]
EP_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
GPU_ARENA_BYTES = 8 << 30

# HEURISTIC: no exhaustive search per new shape, and not the slow fallback kernels of DEFAULT.
# TF32 would round the inputs of products to 10 bits of mantissa.
_CUDA: dict[str, str] = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
    "arena_extend_strategy": "kSameAsRequested",
    "gpu_mem_limit": str(GPU_ARENA_BYTES),
}


def open_session(graph: bytes, provider: Provider, threads: int) -> tuple[Any, str]:
    """An `onnxruntime.InferenceSession` of the graph and the name of the provider it runs on.

    `auto` is CUDA where a session really opens on it, else the CPU. Raises `ProviderError` when the
    provider asked for is not there, `PackageError` when the runtime does not accept the graph,
    `InstallError` when ONNX Runtime itself is missing or broken.
    """
    ort = import_onnxruntime()
    if provider != "auto":
        return _open(ort, graph, provider, threads)
    # What the wheel was compiled for says nothing about this machine; only a session does.
    if EP_NAMES["cuda"] in ort.get_available_providers():
        try:
            return _open(ort, graph, "cuda", threads)
        except ProviderError:
            pass
    return _open(ort, graph, "cpu", threads)


def _open(ort: Any, graph: bytes, provider: str, threads: int) -> tuple[Any, str]:
    wanted = EP_NAMES[provider]
    available = ort.get_available_providers()
    if wanted not in available:
        built = ", ".join(item for item in available if item in EP_NAMES.values())
        raise ProviderError(
            f"the provider {provider} ({wanted}) was asked for, but the installed ONNX Runtime "
            f'{ort.__version__} is built for {built} only: pip install "zeroloss[gpu]" in place of '
            f'"zeroloss[cpu]", or ask for the provider cpu'
        )
    said = "" if provider == "cpu" else preload_gpu_libraries(ort)
    try:
        session = ort.InferenceSession(
            graph, _options(ort, threads), providers=_providers(provider), enable_fallback=0
        )
    except Exception as error:
        if provider == "cpu":
            raise PackageError(f"ONNX Runtime refuses the graph: {one_line(error)}") from error
        raise ProviderError(_absent(ort, provider, one_line(error))) from error
    # run() would otherwise open the session again on the CPU after a failure of the device.
    session.disable_fallback()
    actual = str(session.get_providers()[0])
    if actual != wanted:
        raise ProviderError(_absent(ort, provider, one_line(said, 200) or "no device"))
    return session, actual


def _absent(ort: Any, provider: str, reason: str) -> str:
    devices = sorted(
        {f"{item.ep_name} on {item.device.type.name}" for item in ort.get_ep_devices()}
    )
    return (
        f"the provider {provider} ({EP_NAMES[provider]}) was asked for and is not to be had: "
        f"{reason.rstrip('.')} (ONNX Runtime {ort.__version__} sees {', '.join(devices)}); mend "
        "the driver and libraries, or ask for the provider cpu"
    )


def _providers(provider: str) -> list[str | tuple[str, dict[str, str]]]:
    cpu = EP_NAMES["cpu"]
    cuda = (EP_NAMES["cuda"], _CUDA)
    if provider == "cpu":
        return [cpu]
    # The CPU behind a GPU takes the arithmetic on shapes, which no GPU provider runs.
    if provider == "cuda":
        return [cuda, cpu]
    return [EP_NAMES["tensorrt"], cuda, cpu]


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Waiting threads that spin burn a core each while a slow scan delivers nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def one_line(error: Exception | str, limit: int = 300) -> str:
    """What a runtime said, on one line and cut to `limit` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
