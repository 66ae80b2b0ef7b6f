"""Ranges of a graph's inner tensors, found by running it with some of them as outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession
from gsvexport.calibrate.ranges import Estimator, Observer, Range
from gsvexport.errors import BackendError, InputError
from gsvexport.target.tables import nearest

if TYPE_CHECKING:
    import onnx_ir as ir

BUDGET = 256_000_000  # bytes of outputs that one run may return; while the next one runs, they exist twice


def observe(
    model: ir.Model,
    tensors: Sequence[str],
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    estimator: Estimator,
    *,
    budget: int = BUDGET,
    threads: int | None = None,
) -> dict[str, Range]:
    """(low, high) of each of `tensors` in the float graph `model` over all `feeds`, by name.

    Where a feed's tensors have more than about `budget` bytes, it runs in parts, each of which goes on from what the
    one before it gave. This changes nothing in the result.

    Raises:
        InputError: unknown names, or no feeds.
        BackendError: the graph cannot be run, or gives NaN or infinite values.
    """
    several = list(feeds)
    if not several:
        raise InputError("there is nothing to observe the graph with", fix="calibrate with at least one sentence")
    wanted = _in_order(model, tensors)
    observer = Observer(estimator)
    shortest = min(several, key=_bytes)
    sizes = _sizes(model, wanted, shortest, threads)
    by_parts: dict[int, list[Mapping[str, NDArray[Any]]]] = {}
    for one in several:  # a longer sentence has larger tensors, about in proportion
        parts = -(-sum(sizes.values()) * _bytes(one) // (_bytes(shortest) * budget))
        by_parts.setdefault(min(parts, len(wanted)), []).append(one)
    for parts, alike in by_parts.items():
        with _Chain(model, _groups(sizes, parts), threads) as chain:
            for one in alike:
                for name, array in chain.run(one):
                    observer.add(name, array)
    found = observer.ranges()
    return {name: found[name] for name in tensors}


def _in_order(model: ir.Model, tensors: Sequence[str]) -> list[str]:
    """The names, each once, sorted by where the graph computes them."""
    known = [value.name for value in model.graph.inputs]
    known += [value.name for node in model.graph for value in node.outputs]
    asked = set(tensors)
    if unknown := sorted(asked.difference(known)):
        raise InputError(
            f"graph {model.graph.name} does not compute these tensors",
            problems=[f"'{name}'{nearest(name, [one for one in known if one])}" for name in unknown[:10]],
            found=f"{len(unknown)} of {len(asked)} names",
        )
    return [name for name in known if name in asked]


def _sizes(
    model: ir.Model, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], threads: int | None
) -> dict[str, int]:
    """Bytes of each tensor for one feed: a run that returns nothing but their sizes."""
    with _Probe(model, names, threads, sizes=True) as probe:
        return {name: 4 * int(size) for name, size in probe.run(feeds).items()}


def _groups(sizes: Mapping[str, int], parts: int) -> list[list[str]]:
    """The names, in order, in at most `parts` groups of about the same number of bytes."""
    total, before = max(1, sum(sizes.values())), 0
    groups: list[list[str]] = [[] for _ in range(parts)]
    for name, size in sizes.items():
        groups[before * parts // total].append(name)
        before += size
    return [group for group in groups if group]


def _bytes(feeds: Mapping[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for array in feeds.values())


class _Chain:
    """Copies of a graph, one for each of `groups` of its tensors, in order; each goes on from what the last gave."""

    def __init__(self, model: ir.Model, groups: Sequence[Sequence[str]], threads: int | None) -> None:
        from onnx_ir.passes import common

        self._groups, self._kept = groups, [list[str]() for _ in groups]
        if len(groups) > 1:
            model = common.ShapeInferencePass()(model.clone()).model
            self._kept = _crossing(model, groups)
        self._probes: list[_Probe] = []
        given: list[str] = []
        try:
            for group, kept in zip(groups, self._kept, strict=True):
                more = [name for name in kept if name not in given and name not in group]
                self._probes.append(_Probe(model, [*group, *more], threads, given=given))
                given = kept
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free all copies."""
        for probe in self._probes:
            probe.close()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
        """The tensors of all groups with their names, a group at a time."""
        known: dict[str, NDArray[Any]] = {}
        for probe, group, kept in zip(self._probes, self._groups, self._kept, strict=True):
            found = probe.run({**feeds, **known})
            yield from ((name, found[name]) for name in group)
            known = {name: found[name] if name in found else known[name] for name in kept}


def _crossing(model: ir.Model, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each of `groups`, what is computed up to its last tensor and read after that; nothing for all of them where a
    type is not known, as that of an operator outside ONNX: each group is then computed from the graph's own inputs."""
    place = {value: number for number, node in enumerate(model.graph) for value in node.outputs}
    by_name = {value.name: number for value, number in place.items()}
    ends, reached = [], -1
    for group in groups:
        reached = max(reached, *(by_name.get(name, -1) for name in group))
        ends.append(reached)
    last = {value: max((place[user.outputs[0]] for user, _ in value.uses()), default=-1) for value in place}
    crossing = []
    for index, end in enumerate(ends):
        later = {name for group in groups[index + 1 :] for name in group}
        cut = [
            value
            for value, number in place.items()
            if number <= end and later and (last[value] > end or value.name in later)
        ]
        if any(value.type is None for value in cut):
            return [[] for _ in groups]
        crossing.append([str(value.name) for value in cut])
    return crossing


class _Probe:
    """A copy of a graph whose outputs are the tensors `names` (with `sizes`, the number of values in each).

    The tensors `given` are not computed: they are inputs, too.
    """

    def __init__(
        self,
        model: ir.Model,
        names: Sequence[str],
        threads: int | None,
        *,
        sizes: bool = False,
        given: Sequence[str] = (),
    ) -> None:
        import onnx_ir as ir
        from onnx_ir.passes import common

        copy = model.clone()
        values = {value.name: value for value in copy.graph.inputs}
        values |= {value.name: value for node in copy.graph for value in node.outputs}
        copy.graph.outputs.clear()
        self._feeds = {str(value.name): str(value.name) for value in copy.graph.inputs}
        for number, name in enumerate(given):
            port = ir.Value(name=f"given:{number}", type=values[name].type, shape=values[name].shape)
            ir.convenience.replace_all_uses_with(values[name], port)
            copy.graph.inputs.append(port)
            values[name], self._feeds[f"given:{number}"] = port, name
        self._names = {f"observed:{number}": name for number, name in enumerate(names)}
        for output, name in self._names.items():
            # A new node, because an input may not be an output, and a name for it that no tensor of the graph has.
            node = ir.node("Size" if sizes else "Identity", [values[name]], name=output)
            node.outputs[0].name = output
            node.outputs[0].type = ir.TensorType(ir.DataType.INT64) if sizes else values[name].type
            copy.graph.append(node)
            copy.graph.outputs.append(node.outputs[0])
        common.RemoveUnusedNodesPass()(copy)
        copy.graph.sort()
        self._folder = tempfile.TemporaryDirectory(prefix="gsvexport-observe-")
        try:
            path = Path(self._folder.name, "probe.onnx")
            ir.save(ir.external_data.load_to_model(copy), path, external_data="weights")  # to be mapped, not read
            self._session = _open(path, threads)
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> _Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the copy and its files."""
        self._session.close()
        self._folder.cleanup()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The observed tensors, by their names in the graph."""
        found = self._session.run({port: np.asarray(feeds[name]) for port, name in self._feeds.items()})
        return {self._names[output]: array for output, array in found.items()}


def _open(path: Path, threads: int | None) -> OnnxRuntimeSession:
    """A session that gives memory back after each run. Speech keeps it for the next one, which takes twice as much."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or 0
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class of their own
        raise BackendError(f"ONNX Runtime cannot load the graph to be observed: {error}") from error
    return OnnxRuntimeSession(path, session)
