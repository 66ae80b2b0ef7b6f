"""One graph in ONNX Runtime: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gsvexport.errors import BackendError


class OnnxRuntimeSession:
    """One graph in ONNX Runtime; see `gsvexport.backends.Session`."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path, self._session = path, session
        self._outputs = [output.name for output in session.get_outputs()]

    def shape(self, port: str, *, output: bool = False) -> list[int | str]:
        """The declared shape of an input, or of an output; a free axis is a name."""
        ports = self._session.get_outputs() if output else self._session.get_inputs()
        found: list[int | str] = next(item.shape for item in ports if item.name == port)
        return found

    def bind(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> Any:
        """Tie arrays to ports for many runs, which use the arrays' own memory; the caller keeps them alive."""
        import onnxruntime

        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding

    def run_bound(self, binding: Any) -> None:
        """Run on the arrays of a `bind`."""
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise failure(self._path, "run", error) from error

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name. Arrays are handed over as they are: callers check them."""
        return self.some(feeds, self._outputs)

    def some(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """`run` for these of the outputs."""
        if self._session is None:
            raise BackendError(f"{self._path} was closed", fix="load the voice again")
        try:
            values = self._session.run(list(outputs), dict(feeds))
        except Exception as error:  # the runtime's exceptions share no base class of their own
            raise failure(self._path, "run", error, feeds) from error
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Free the graph's memory."""
        self._session = None


def failure(path: Path, doing: str, error: Exception, feeds: Mapping[str, NDArray[Any]] | None = None) -> BackendError:
    """What is said when the runtime cannot load or run a graph, with the arrays it was given."""
    shapes = [f"{name} {array.dtype} {list(array.shape)}" for name, array in (feeds or {}).items()]
    return BackendError(
        f"stage '{path.stem}': ONNX Runtime cannot {doing} {path}",
        problems=[str(error).strip()],
        found="; ".join(shapes) or None,
    )
