"""The Muon optimizer: each weight matrix moves along the orthogonal matrix that is nearest to its momentum."""

import math
from collections import defaultdict
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiforce.nn.matrices import Matrix, matrices

MOMENTUM = 0.95
# The root mean square of a step over the elements of a matrix, in units of the learning rate; about that of Adam.
LENGTH = 0.2
# Applied one after another, the polynomials x (a + b x^2 + c x^4) move singular values between 0.003 and 1 to between
# 0.8 and 1.2. Each polynomial is nearest to 1 on the range that the previous one leaves (arXiv 2505.16932). The
# original Muon applies one and the same polynomial, and needs five applications instead of four.
QUINTICS = (
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
)
BETA1, TINY = 0.9, 1e-8


class Muon(torch.optim.Optimizer):
    """Moves matrices along the orthogonal factor of their momentum, and all other weights as Adam does.

    K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024). Steps are as long as Adam's
    (arXiv 2502.16982, equation 4), so that both share one learning rate. In an equivariant network the block of each
    irrep and of each species is a separate matrix, so a step does not depend on the basis of the channels. A matrix
    without a gradient, such as that of a species that is not in the batch, does not move, because orthogonalization
    would turn even a faint remaining momentum into a step of full length.

    Args:
        network: the network whose trainable weights the optimizer moves.
        learning_rate: the learning rate of matrices and of other weights.
        beta2: the decay rate of Adam's average of squared gradients.
    """

    def __init__(self, network: nn.Module, learning_rate: float, beta2: float):
        found = [m for m in matrices(network) if m.weights.requires_grad]
        vectors = {id(m.weights) for m in found if min(m.shape) == 1}  # they have a single singular value
        moved = [m for m in found if id(m.weights) not in vectors]
        own = {id(m.weights): m.weights for m in moved}
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
        groups: list[dict[str, Any]] = [
            {"params": list(own.values()), "momentum": MOMENTUM},
            {"params": rest, "betas": (BETA1, beta2)},
        ]
        super().__init__(groups, {"lr": learning_rate})
        self._same_shape: dict[tuple[tuple[int, ...], torch.dtype], list[Matrix]] = defaultdict(list)
        for m in moved:
            self._same_shape[m.shape, m.weights.dtype].append(m)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # Muon takes no closure
        """Move all weights that have a gradient."""
        if closure is not None:
            raise ValueError("Muon does not take a closure: call step() without arguments")
        of_matrices, of_others = self.param_groups
        self._step_matrices(of_matrices)
        for parameter in of_others["params"]:
            if parameter.grad is not None:
                self._step_adam(parameter, of_others["lr"], *of_others["betas"])

    def _step_matrices(self, group: dict[str, Any]) -> None:
        gradients, directions = {}, {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            memory = self.state[parameter]
            if not memory:
                memory["momentum_buffer"] = torch.zeros_like(parameter)
            gradient = gradients[parameter] = parameter.grad.contiguous()
            momentum = memory["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
            directions[parameter] = gradient.add(momentum, alpha=group["momentum"])  # Nesterov momentum
        for (shape, _), same_shape in self._same_shape.items():
            moved = [m for m in same_shape if m.weights in gradients]
            if not moved:
                continue
            highest = torch.stack([m.of(gradients[m.weights]) for m in moved]).abs().amax((1, 2))
            steps = orthogonalized(torch.stack([m.of(directions[m.weights]) for m in moved]))
            steps = steps * (highest > 0)[:, None, None]
            length = LENGTH * math.sqrt(max(shape))
            torch._foreach_add_([m.of(m.weights) for m in moved], list(steps), alpha=-group["lr"] * length)

    def _step_adam(self, parameter: nn.Parameter, rate: float, beta1: float, beta2: float) -> None:
        memory = self.state[parameter]
        if not memory:
            memory["step"] = torch.zeros((), dtype=torch.float32)
            memory["exp_avg"], memory["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        memory["step"] += 1
        count = memory["step"].item()
        mean = memory["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        square = memory["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        scale = (square / (1 - beta2**count)).sqrt_().add_(TINY)
        parameter.addcdiv_(mean, scale, value=-rate / (1 - beta1**count))


def orthogonalized(x: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch rows columns"]:
    """The approximate orthogonal factors of matrices: the same singular vectors, with all singular values near 1.

    Polynomial iterations (``QUINTICS``) need only matrix products and no decomposition. For long matrices the
    iterations multiply the small Gram matrices, and the long matrix only once at the end.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonalized(x.mT).mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + torch.finfo(x.dtype).tiny ** 0.5)
    if x.shape[2] < 2 * x.shape[1]:
        for a, b, c in QUINTICS:
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram = x @ x.mT
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    factors: list[Tensor] = []
    for a, b, c in QUINTICS:
        if factors:
            gram = factors[-1] @ gram @ factors[-1]
        factors.append(a * identity + torch.baddbmm(gram, gram, gram, beta=b, alpha=c))
    return reduce(torch.matmul, reversed(factors)) @ x
