"""A predictor for a data set in which some channels are not learned."""

from collections.abc import Mapping

from torch import Tensor

from katops.predictors.fields import FieldPredictor


class KeepingPredictor(FieldPredictor):
    """The same predictor, with channels that stay what they are in the last frame of the input.

    What a data set does not learn, such as the pressure of an incompressible flow that was filled in, is predicted
    without any meaning. In a rollout it would be the next input, and spoil the channels that are learned.

    Args:
        predictor: whose parts are shared.
        channels: names of outputs that are inputs, too.
    """

    def __init__(self, predictor: FieldPredictor, channels: list[str]) -> None:
        super().__init__(predictor.model, predictor.normalizer, predictor.meta, predictor.dirichlet_values)
        outputs, inputs = ([channel.name for channel in side] for side in (self.meta.outputs, self.meta.inputs))
        self._places = [(outputs.index(name), inputs.index(name)) for name in channels]

    def forward(self, x: Tensor, time: Tensor | None = None, constants: Tensor | None = None) -> Tensor:
        """See :meth:`FieldPredictor.forward`."""
        y = super().forward(x, time, constants).clone()
        for output, given in self._places:
            y[:, :, output] = x[:, -1:, given].to(y.dtype)
        return y


def keeping(predictor: FieldPredictor, mask: Mapping[str, str | None]) -> FieldPredictor:
    """The predictor for data with this ``data.mask``: it keeps inputs that are masked everywhere as outputs."""
    inputs = {channel.name for channel in predictor.meta.inputs}
    channels = [name for name, where in mask.items() if where is None and name in inputs]
    return KeepingPredictor(predictor, channels) if channels else predictor
