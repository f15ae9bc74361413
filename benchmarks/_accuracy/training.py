"""Ways of training that were tried and not taken up, as callbacks of skorch."""

import torch
from skorch.callbacks import Callback


class AveragedWeights(Callback):
    """End with an exponential moving average of the weights over the steps."""

    def __init__(self, decay):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        self.average_ = [p.detach().clone() for p in net.module_.parameters()]

    @torch.no_grad()
    def on_batch_end(self, net, **kwargs):
        torch._foreach_lerp_(self.average_, list(net.module_.parameters()), 1 - self.decay)

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        torch._foreach_copy_(list(net.module_.parameters()), self.average_)


class Mixup(Callback):
    """Train on weighted means of two cells and of their positions, for a single section.

    The weight of the second cell is min(w, 1 - w) with w from Beta(concentration, concentration).
    """

    def __init__(self, concentration):
        self.concentration = concentration

    def on_batch_begin(self, net, batch=None, **kwargs):
        given, compared = batch
        x, s = given["x"], compared["s"]
        beta = torch.distributions.Beta(self.concentration, self.concentration)
        share = beta.sample(x.shape[:2])[..., None]
        share = torch.minimum(share, 1 - share).to(x.device)
        given["x"] = compared["target"] = torch.lerp(x, x.roll(1, dims=1), share)
        compared["s"] = torch.lerp(s, s.roll(1, dims=1), share)
