"""A forward pass watched: every ATen call with its arguments and the storages they share, translated as it is executed.

What is read is what PyTorch does, not what Python looks like: branches on optional arguments and loops have already
been decided when an operator is called. A dispatch mode sees the operators; a function mode stands at the doors
through which numbers leave PyTorch without one (``numpy()``, ``tolist()``).

Nothing passes by default. An operator that reads activations is translated (see ``translations``), or it hands on the
same storage, or its result depends on shapes alone; else it is refused by name and its result is opaque from then on,
so that one pass finds all that is in the way. Steps in place put their result into the storage that they write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from gls_es.network import wording
from gls_es.network.graph import Input
from gls_es.network.operators import (
    OVERWRITES,
    SHAPES_ONLY,
    UNWRITTEN,
    VIEWS,
    ParameterMisused,
    Refused,
    Signature,
    signature_of,
)
from gls_es.network.scripted import scripts_watched
from gls_es.network.storages import Content, Order, Storages
from gls_es.network.translation import Activation, Translation, Weight
from gls_es.network.translations import OPERATORS
from gls_es.network.views import places_of

_DOORS = {
    *("tolist", "numpy", "__array__", "__dlpack__", "__reduce_ex__", "__deepcopy__", "apply_", "map_", "map2_"),
    *("data_ptr", "untyped_storage", "storage", "_typed_storage", "share_memory_"),
}
_NUMBERS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::item"}
_BY_ROWS = {"mm", "addmm", "relu", "neg", "add", "sub", "rsub", "mul", "div", "clone"}
"""Operators that treat every row of the first axis alike, which may then be several of an image."""
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_FOLDED = frozenset({"aten::linear", "aten::matmul"})
"""Products for which inference_mode takes another operator unless the rows lie in one piece."""
_VALUES = frozenset({"activation", "parameter", "opaque"})


class Recorder(TorchDispatchMode):
    """Watches one forward pass of a module.

    Args:
        module: in eval mode, a private copy.
        images: what it is run on, (B, *input_shape), a private copy, too.
        known: the constants' memory, by address, in an earlier pass of the same module. What else is read, and was not
            seen to be made, has been made behind the recording's back.

    Attributes:
        translation: the graph that the pass has made, and what stood in the way.
        values: what was computed, (B, *shape), for every node that is the value of an operator.
    """

    def __init__(self, module: nn.Module, images: Tensor, known: dict[int, Any] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.module = module
        self.images = images
        self.storages = Storages()
        self.translation = Translation(len(images), images.dtype, images.device, self.storages)
        self.num_parameters = self.storages.hold(module)
        self.values: dict[int, Tensor] = {}
        self._stack: list[tuple[str, nn.Module]] = [("", module)]
        self._opened: set[int] = set()
        self.place(images, self.translation.add(Input("input", (), tuple(images.shape[1:]))), fresh=True)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch asks modes whether to import its compiler, to be left alone by it: a second for nothing here."""
        return False

    def run(self) -> Any:
        """Execute the module; what it returns. Exceptions of the module are its own."""
        with self._followed(), _Doors(self), scripts_watched(self._read_by_script), self:
            return self.module(self.images)

    def node_of_result(self, result: Any) -> int | None:
        """The node of what the module returned; None where it depends on no activation."""
        if not isinstance(result, Tensor) or self.storages.of(result).kind not in ("activation", "opaque"):
            return None
        return self.node(result, "output")

    @contextmanager
    def _followed(self) -> Iterator[None]:
        """Know, while it lasts, which module runs."""
        with ExitStack() as stack:
            for path, part in self.module.named_modules():
                if part is not self.module:
                    before = part.register_forward_pre_hook(lambda part, _, path=path: self._stack.append((path, part)))
                    after = part.register_forward_hook(lambda part, *_: self._leave(part))
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield

    def _leave(self, part: nn.Module) -> None:
        while len(self._stack) > 1 and self._stack.pop()[1] is not part:
            pass

    def where(self, name: str) -> str:
        """The running step, for messages."""
        return wording.step_name(name, *self._stack[-1])

    def problem(self, reason: str, place: str) -> None:
        """Note what is in the way; once."""
        path, part = self._stack[-1]
        own = wording.module_reason(part)
        text = f"{place}: {reason}" if own is None else f"'{path}': {own}"
        if text not in self.translation.problems:
            self.translation.problems.append(text)

    def place(self, tensor: Tensor, node: int, *, fresh: bool) -> None:
        """Note that a tensor's storage holds a node from now on."""
        if tensor.untyped_storage()._cdata in self._opened:  # by numpy(), say, which shows what is written later
            self.problem(wording.DOOR, self.where("fill"))
        self.storages.put(tensor, "activation", fresh=fresh, node=node)
        if node not in self.values:
            shape = (self.translation.batch, *self.translation.nodes[node].shape)
            self.values[node] = tensor.detach().clone().reshape(shape)

    def node(self, tensor: Tensor, where: str, *, tall: bool = False) -> int:
        """The node whose values a tensor shows; ``tall`` if its first axis may hold several rows of each image."""
        content, batch = self.storages.of(tensor), self.translation.batch
        count, left = divmod(len(tensor), batch) if tensor.dim() else (0, 0)
        places = None
        if left == 0 and (count == 1 or (count > 1 and tall)):
            places = self._places(tensor, content)
        if places is None:
            step = self.storages.view_step(tensor) or "an earlier step"
            part = f"it takes the values of a batch's images apart, or has another batch axis; that was made by {step}"
            raise Refused("" if content.kind == "opaque" else part)
        shape = (tuple(tensor.shape[1:]) or (1,)) if count == 1 else (count, *tensor.shape[1:])
        if content.node is None:  # what a refused step has left, taken for another input
            content_node = self.translation.add(Input(where, (), shape))
            self.storages.put(tensor, "activation", fresh=content.fresh, node=content_node)
            return content_node
        return self.translation.selected(where, [content.node], places, shape)

    def _places(self, tensor: Tensor, content: Content) -> Tensor | None:
        """Which of an image's values in memory a tensor shows, (n,); None if they are no selection of them."""
        if content.order is None or Order.of(tensor).same(content.order):
            same = content.order is not None
            return torch.arange(tensor.numel() // self.translation.batch) if same else None
        return None if content.node is None else places_of(tensor, content.order, self.translation.batch)

    def opened(self, name: str, arguments: Any) -> None:
        """A door was used: refused if activations or parameters stand behind it."""
        tensors = [t for t in arguments if isinstance(t, Tensor)]
        self.check_known(tensors, self.where(name))
        self._opened |= {t.untyped_storage()._cdata for t in tensors}
        if any(self.storages.of(t).kind in _VALUES for t in tensors):
            self.problem(wording.DOOR, self.where(name))

    def _read_by_script(self, name: str) -> None:
        """A compiled function may use a door, whatever it does with it."""
        self.problem(wording.DOOR, self.where(name))

    def check_known(self, tensors: list[Tensor], place: str) -> None:
        """What is read was seen to be made, or is as old as the first pass."""
        old = {t.untyped_storage().data_ptr() for t in tensors if self.storages.old(t)}
        if self.known is not None and not self.known.keys() >= old:
            self.problem(wording.UNSEEN, place)

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Execute an operator and read it."""
        kwargs = kwargs or {}
        signature = signature_of(func)
        if signature.composite and signature.name not in VIEWS and signature.name not in OPERATORS:
            with self:  # only inside inference_mode do such operators come here whole; not by Python's decompositions,
                if signature.name in _FOLDED and args[0].dim() > 2:
                    args = (args[0].contiguous(), *args[1:])
                return func._op_dk(_COMPOSITE, *args, **kwargs)  # of which some copy where PyTorch hands on
        with torch._C.DisableTorchFunction():  # what the recording itself looks at goes through no door
            step = _Step(self, signature, signature.bind(args, kwargs))
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            step.read([t for t in tree_iter(result) if isinstance(t, Tensor)])
        return result


class _Doors(TorchFunctionMode):
    """Notices numbers that leave PyTorch without an operator."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _DOORS:
            self._recorder.opened(name, args)
        return func(*args, **(kwargs or {}))


class _Step:
    """One operator. What it was given is looked up before it runs, for it may overwrite it."""

    def __init__(self, recorder: Recorder, signature: Signature, given: dict[str, Any]) -> None:
        self.recorder, self.signature, self.given = recorder, signature, given
        self.storages = recorder.storages
        self.where = recorder.where(signature.short)
        written = [given[name] for name in signature.writes]
        self.written = [t for t in tree_iter(written) if isinstance(t, Tensor)]  # some operators write to lists
        self.tensors = [t for t in tree_iter(given) if isinstance(t, Tensor)]
        unread = signature.writes if signature.only_writes else ()
        read = {name: value for name, value in given.items() if name not in unread}  # by name: it may be given twice
        self.reads = [t for t in tree_iter(read) if isinstance(t, Tensor)]
        if signature.name != "aten::lift_fresh":  # which announces what torch.tensor has just made
            recorder.check_known(self.reads, self.where)
        self.kinds = {self.storages.of(t).kind for t in self.reads}
        self.names = [name for t in self.reads for name, _, _ in self.storages.of(t).parameters]
        self.translate = OPERATORS.get(signature.name) if self.kinds & _VALUES else None
        self.refused = Refused(wording.OVERLAP) if self._overlaps() else None
        self.arguments: dict[str, Any] = {}
        if self.translate is not None and self.refused is None:
            try:
                resolved = {name: self._resolved(value) for name, value in read.items()}
                self.arguments = signature.chosen(self.translate, {**given, **resolved})
            except Refused as reason:
                self.refused = reason

    def _overlaps(self) -> bool:
        """Whether a tensor that is read lies across memory that is written, so that the order of steps would count."""
        memory = [(t.untyped_storage()._cdata, Order.of(t)) for t in self.written]
        reads = [(t.untyped_storage()._cdata, Order.of(t)) for t in self.reads] if memory else []
        return any(r[0] == w[0] and not r[1].same(w[1]) for r in reads for w in memory)

    def _resolved(self, value: Any) -> Any:
        """Activations as nodes, parameters as weights, constants as copies where they may be overwritten."""
        if isinstance(value, list | tuple):
            return [self._resolved(v) for v in value]
        if not isinstance(value, Tensor):
            return value
        kind = self.storages.of(value).kind
        if kind in ("activation", "opaque"):
            by_rows = self.signature.short.rstrip("_") in _BY_ROWS
            return Activation(self.recorder.node(value, self.where, tall=by_rows))
        if kind == "parameter":
            return Weight(value)
        if kind == "empty":
            raise Refused(wording.UNWRITTEN)
        return value.detach().clone() if self.written else value

    def read(self, outputs: list[Tensor]) -> None:
        """Note what the operator's outputs, and the storages it wrote, hold now."""
        name = self.signature.name
        if any(not self.storages.of(t).fresh for t in self.written):
            self.recorder.problem(wording.STATE, self.where)
        if self.signature.random:
            self._refuse(Refused(wording.DRAWS), outputs)
        elif name in VIEWS:
            self._views(outputs)
        elif not self.kinds & _VALUES:
            self._constants(outputs)
        elif name in SHAPES_ONLY:
            self._fresh(outputs)
        elif name in OVERWRITES:
            self._overwritten()
        else:
            self._translated(outputs)

    def _views(self, outputs: list[Tensor]) -> None:
        """Aliases: their storage tells what they hold."""
        sources = {t.untyped_storage()._cdata for t in self.tensors}
        if any(t.untyped_storage()._cdata not in sources for t in outputs):
            self._refuse(Refused("it copies where a view was expected"), outputs)
        for tensor in outputs:
            self.storages.note_view(tensor, self.where)
            if self.signature.name == "aten::lift_fresh" and self.storages.of(tensor).kind == "constant":
                self.storages.put(tensor, "constant", fresh=True)  # torch.tensor has just made it

    def _constants(self, outputs: list[Tensor]) -> None:
        """Nothing that depends on the image or on parameters was read."""
        if "empty" in self.kinds:
            self._refuse(Refused(wording.UNWRITTEN), outputs)
            return
        sources = {t.untyped_storage()._cdata for t in self.tensors}
        self._fresh([t for t in outputs if t.untyped_storage()._cdata not in sources])
        for tensor in self.written:
            content = self.storages.of(tensor)
            if content.kind == "constant":
                continue
            if self.storages.whole(tensor):
                self.storages.put(tensor, "constant", fresh=content.fresh)
            elif content.kind != "empty":
                self._refuse(Refused(wording.PART), [tensor])

    def _fresh(self, outputs: list[Tensor]) -> None:
        for tensor in outputs:
            self.storages.put(tensor, "empty" if self.signature.name in UNWRITTEN else "constant", fresh=True)

    def _overwritten(self) -> None:
        """``copy_``: the memory holds the source's node from now on."""
        (target,), source = self.written, self.given.get("src")
        try:
            if self.refused is not None:
                raise self.refused
            if not isinstance(source, Tensor) or self.storages.of(source).kind == "parameter":
                raise ParameterMisused
            if not self.storages.whole(target) or source.shape != target.shape or source.dtype != target.dtype:
                raise Refused(wording.PART)
            self.recorder.place(target, self.recorder.node(source, self.where), fresh=self.storages.of(target).fresh)
        except Refused as reason:
            self._refuse(reason, [target])

    def _translated(self, outputs: list[Tensor]) -> None:
        targets = self.written or outputs
        try:
            if self.refused is not None:
                raise self.refused
            if self.translate is None:
                raise self._unknown()
            out = targets[0]
            if self.written and not self.storages.whole(out):
                raise Refused(wording.PART)
            if out.dtype != self.recorder.images.dtype:
                raise Refused(wording.another_type(self.recorder.images.dtype, out.dtype))
            node = self.translate(self.recorder.translation, self.where, self._by_images(out), **self.arguments)
        except Refused as reason:
            self._refuse(reason, targets)
            return
        self.recorder.place(out, node, fresh=self.storages.of(out).fresh or not self.written)
        for extra in targets[1:]:
            self.storages.put(extra, "opaque", fresh=True)

    def _by_images(self, out: Tensor) -> Tensor:
        """What an operator on several rows an image made, with an axis for images in front."""
        batch = self.recorder.translation.batch
        rows = self.signature.short.rstrip("_") in _BY_ROWS and out.dim() == 2 and len(out) > batch
        return out.reshape(batch, -1, out.shape[1]) if rows and len(out) % batch == 0 else out

    def _unknown(self) -> Refused:
        if self.signature.name in _NUMBERS:
            return Refused(wording.BRANCH)
        return ParameterMisused() if self.names else Refused(wording.no_bounds(self.signature.short))

    def _refuse(self, reason: Refused, targets: list[Tensor]) -> None:
        """Note the reason, and go on as if the results were other inputs."""
        if isinstance(reason, ParameterMisused):
            if self.names:
                self.recorder.problem(wording.PARAMETERS, f"'{self.names[0]}'")
        elif str(reason):
            self.recorder.problem(str(reason), self.where)
        inputs = self.signature.random or self.kinds & {"activation", "opaque"}
        for tensor in targets:
            fresh = self.storages.of(tensor).fresh or not self.written
            self.storages.put(tensor, "opaque" if inputs else "parameter", fresh=fresh)
