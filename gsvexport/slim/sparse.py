"""Unstructured pruning: the smallest weights of every large matrix become 0 and stay so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PARTS = ("h.layers.", "dec.", "enc_p.encoder", "enc_p.mrte.")  # what is trained, but for embeddings and ends
_LEAST = 1024  # weights of a matrix that is worth it


@dataclass(frozen=True)
class Masks:
    """What stays (True) of tensors, by their names in the networks' state."""

    kept: Mapping[str, Tensor]

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Set everything else to 0; for tensors that this network has."""
        self.apply_to(network, "")

    @torch.no_grad()
    def apply_to(self, part: nn.Module, prefix: str) -> None:
        """The same for a part, whose names follow `prefix`."""
        for name, value in part.named_parameters() if self.kept else ():
            if (mask := self.kept.get(prefix + name)) is not None:
                value.mul_(mask)

    @property
    def share(self) -> float:
        """Of zeros, in what is masked."""
        total = sum(mask.numel() for mask in self.kept.values())
        return 1 - sum(int(mask.sum()) for mask in self.kept.values()) / total if total else 0.0


def masks(networks: list[nn.Module], share: float) -> Masks:
    """Masks that leave the largest weights of each matrix, 1 - `share` of them.

    Under weight norm the direction is masked and the length stays learned; no direction becomes 0 as a whole, because
    it has to have a length.
    """
    found: dict[str, Tensor] = {}
    for network in networks if share else ():
        for name, value in network.named_parameters():
            if name.startswith(_PARTS) and value.ndim > 1 and value.numel() >= _LEAST and not name.endswith("weight_g"):
                flat = value.detach().abs().flatten()
                kept = torch.ones(flat.numel(), dtype=torch.bool)
                kept[flat.argsort(stable=True)[: int(share * flat.numel())]] = False
                rows = kept.view(len(value), -1)
                rows[torch.arange(len(value)), flat.view(len(value), -1).argmax(dim=1)] = True
                found[name] = kept.view_as(value)
    return Masks(found)
