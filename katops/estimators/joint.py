"""The members of an ensemble as one network, so that all of them are fitted in the time of little more than one.

Small networks spend their time in calls, not in arithmetic. Side by side, E members with layers of widths I, H, J are
one network with layers of widths I, E H, E J: they share the inputs of the first layer, the weights of later ones are
blocks on a diagonal, kept apart by the mask of the edges. No gradient passes from a member to another.
"""

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from katops.estimators.settings import Settings
from katops.models.build import build_model
from katops.models.kan_penalty import activity_penalty, bending, edge_activity

SMALLEST_SIZE = 1e-3
"""Rounds the corner of the norm of an input's weights at 0, so that a quasi-Newton method can follow it."""

LARGEST_CACHE = 2**28
"""Bytes up to which the bases of the first layer, which do not change during training, are kept."""

State = dict[str, Tensor]

_ONE_AT_A_TIME = threading.Lock()  # the generator that is lent to a constructor belongs to all threads


def build_members(settings: Settings, in_features: int, out_features: int, seeds: list[int]) -> list[nn.Module]:
    """Networks that differ by their seeds; the global random numbers stay as they are."""
    options = {"in_features": in_features, "out_features": out_features, **settings.model_options()}
    return [_built(options, seed) for seed in seeds]


def joint_model(members: list[nn.Module]) -> "SideBySide | OneByOne":
    """The members in the form that is fastest to fit."""
    splines = all(layer.spline and not layer.products for layer in members[0].layers)
    return SideBySide(members) if splines else OneByOne(members)


class SideBySide(nn.Module):
    """Members with splines as one network.

    Args:
        members: of one architecture and with the same grid in the first layer.
    """

    has_grid = True

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self._members = tuple(members)  # not registered: their parameters are copied, not trained
        first, count = members[0], len(members)
        options = first.recipe["arguments"] if first.recipe else {}
        widths = [layer.in_features for layer in first.layers[1:]]
        self._widths = [layer.in_features for layer in first.layers], [layer.out_features for layer in first.layers]
        wide = {
            "hidden": [count * width for width in widths],
            "out_features": count * first.layers[-1].out_features,
        }
        self.net = _built({**options, **wide}, 0)
        with torch.no_grad():
            for layer in self.net.layers:
                for tensor in (layer.mask, *layer.parameters()):
                    tensor.zero_()
            for place, member in enumerate(members):
                self._load(place, dict(member.state_dict()))
        self._cached = False

    def __len__(self) -> int:
        return len(self._members)

    def features(self, x: Tensor) -> Tensor:
        """What of the first layer depends on x alone (rows, inputs); given to :meth:`forward` in its place."""
        layer = self.net.layers[0]
        terms = layer.basis.size + (layer.base_weight is not None) + (layer.linear_weight is not None)
        self._cached = x.numel() * terms * x.element_size() <= LARGEST_CACHE
        if not self._cached:
            return x
        with torch.no_grad():
            parts = [layer.basis(x).flatten(-2)]
            if layer.base_weight is not None:
                parts.append(layer.base_act(x))
            if layer.linear_weight is not None:
                parts.append(x)
            return torch.cat(parts, dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (rows, members, J)."""
        first, *others = self.net.layers
        z = functional.linear(features, _weights(first), first.bias) if self._cached else first(features)
        for layer in others:
            z = layer(z)
        return z.unflatten(-1, (len(self), -1))

    def update_grid(self, x: Tensor) -> None:
        """Move the grids to where the samples (rows, inputs) are."""
        self.net.update_grid(x)

    def refine(self, intervals: int) -> None:
        """Finer grids, the same functions."""
        self.net.refine(intervals)

    def penalty(self, x: Tensor) -> Tensor:
        """The sparsity penalty, sum over the members."""
        total = x.new_zeros(())
        for number, (layer, seen) in enumerate(zip(self.net.layers, self.net.inputs_of_layers(x), strict=True)):
            activity = edge_activity(layer, seen)
            for place in range(len(self)):
                block = activity[self._block(f"layers.{number}.mask", place)]
                total = total + activity_penalty(block, l1=1.0, entropy=2.0)
        return total

    def roughness(self) -> Tensor:
        """Squared bends of the splines, see :func:`katops.models.kan_penalty.bending`, sum over the members."""
        return torch.stack([bending(layer).square().sum() for layer in self.net.layers]).sum()

    def sizes_of_inputs(self) -> Tensor:
        """Norm of all weights of each input in the first layer, (members, inputs)."""
        return torch.sqrt(_squares(self.net.layers[0]).unflatten(0, (len(self), -1)).sum(1) + SMALLEST_SIZE**2)

    def drop_inputs(self, kept: Tensor) -> None:
        """Turn off the edges of inputs, kept (members, inputs) being false."""
        mask = self.net.layers[0].mask
        mask.mul_(kept.repeat_interleave(len(mask) // len(self), dim=0))

    def snapshots(self, which: Tensor | None = None, others: list[State] | None = None) -> list[State]:
        """Copies of the states of all members; where ``which`` is false, those in ``others``."""
        chosen = [True] * len(self) if which is None else which.tolist()
        return [self._state(place) if fresh else others[place] for place, fresh in enumerate(chosen)]

    def restore(self, snapshots: list[State]) -> None:
        """Back to these states, which must have the present number of intervals."""
        with torch.no_grad():
            for place, state in enumerate(snapshots):
                self._load(place, state)

    def members(self, snapshots: list[State]) -> list[nn.Module]:
        """Networks with these states, each with its own number of intervals."""
        return [_with_state(member, state) for member, state in zip(self._members, snapshots, strict=True)]

    def _state(self, place: int) -> State:
        state = self.net.state_dict()
        return {name: value[self._block(name, place)].clone() for name, value in state.items()}

    def _load(self, place: int, state: State) -> None:
        for name, value in self.net.state_dict().items():
            value[self._block(name, place)] = state[name]

    def _block(self, name: str, place: int) -> tuple[slice, ...]:
        """Where a tensor of a member lies in that of the network."""
        _, number, tensor = name.split(".", 2)
        inputs, outputs = (widths[int(number)] for widths in self._widths)
        rows = slice(place * outputs, (place + 1) * outputs)
        columns = slice(None) if number == "0" else slice(place * inputs, (place + 1) * inputs)
        return {"bias": (rows,), "basis.knots": (columns,)}.get(tensor, (rows, columns))


class OneByOne(nn.Module):
    """Members of any kind, one after the other.

    Args:
        members: of one architecture.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(members)

    @property
    def has_grid(self) -> bool:
        """Whether the edges are splines."""
        return self.nets[0].spline

    def __len__(self) -> int:
        return len(self.nets)

    def features(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (rows, members, J)."""
        return torch.stack([net(features) for net in self.nets], dim=1)

    def penalty(self, x: Tensor) -> Tensor:
        """The sparsity penalty, sum over the members."""
        return torch.stack([net.penalty(x) for net in self.nets]).sum()

    def update_grid(self, x: Tensor) -> None:
        """Move the grids to where the samples (rows, inputs) are."""
        for net in self.nets:
            net.update_grid(x)

    def refine(self, intervals: int) -> None:
        """Finer grids, the same functions."""
        for net in self.nets:
            net.refine(intervals)

    def roughness(self) -> Tensor:
        """See :meth:`SideBySide.roughness`."""
        return torch.stack([bending(layer).square().sum() for net in self.nets for layer in net.layers]).sum()

    def sizes_of_inputs(self) -> Tensor:
        """See :meth:`SideBySide.sizes_of_inputs`."""
        return torch.sqrt(torch.stack([_squares(net.layers[0]).sum(0) for net in self.nets]) + SMALLEST_SIZE**2)

    def drop_inputs(self, kept: Tensor) -> None:
        """See :meth:`SideBySide.drop_inputs`."""
        for net, inputs in zip(self.nets, kept, strict=True):
            net.layers[0].mask.mul_(inputs)

    def restore(self, snapshots: list[State]) -> None:
        """Back to these states, which must have the present number of intervals."""
        for net, state in zip(self.nets, snapshots, strict=True):
            net.load_state_dict(state)

    def snapshots(self, which: Tensor | None = None, others: list[State] | None = None) -> list[State]:
        """See :meth:`SideBySide.snapshots`."""
        chosen = [True] * len(self) if which is None else which.tolist()
        return [
            {name: value.clone() for name, value in net.state_dict().items()} if fresh else others[place]
            for place, (net, fresh) in enumerate(zip(self.nets, chosen, strict=True))
        ]

    def members(self, snapshots: list[State]) -> list[nn.Module]:
        """The networks with these states."""
        return [_with_state(net, state) for net, state in zip(self.nets, snapshots, strict=True)]


def _built(options: dict[str, Any], seed: int) -> nn.Module:
    """A network; what is drawn comes from the seed alone."""
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return build_model("kan", **options)


def _with_state(member: nn.Module, state: State) -> nn.Module:
    """A network like this one with that state, whose grids may be finer."""
    options = dict(member.recipe["arguments"])
    knots = state.get("layers.0.basis.knots")
    if knots is not None:
        degree = member.layers[0].basis.degree
        options["basis_layer"] = {**options["basis_layer"], "intervals": knots.shape[1] - 2 * degree - 1}
    net = _built(options, 0)
    net.load_state_dict(state, assign=True)
    return net


def _squares(layer: nn.Module) -> Tensor:
    """Sum of the squared weights of every edge, (sub-nodes, inputs)."""
    weights = [layer.coefficients.square().sum(-1)]
    weights += [weight.square() for weight in (layer.base_weight, layer.linear_weight) if weight is not None]
    return torch.stack(weights).sum(0) * layer.mask


def _weights(layer: nn.Module) -> Tensor:
    """All weights of a layer in the order of :meth:`SideBySide.features`."""
    parts = [(layer.coefficients * layer.mask.unsqueeze(-1)).flatten(1)]
    parts += [weight * layer.mask for weight in (layer.base_weight, layer.linear_weight) if weight is not None]
    return torch.cat(parts, dim=1)
