"""Which networks the kernels step."""

from __future__ import annotations

from forecastd.network.kinds import KINDS
from forecastd.network.kinds.convolution import Conv1dOptions
from forecastd.network.kinds.recurrent import ONLY_IN_TRAINING
from forecastd.network.kinds.windows import CAUSAL
from forecastd.network.spec import LayerSpec, NetworkSpec
from forecastd.runtime.kernels.packing import ACTIVATIONS, IGNORED, LINEAR, PACKED, live_layers
from forecastd.runtime.kernels.program import CLOCK_KINDS, HEAD_KINDS

_ANY_VALUE = {"hidden", "output", "variant", "input_projector", "output_projector", "reset"}
"""Options of recurrent layers that the kernels take as they are."""


def unsupported(spec: NetworkSpec) -> str | None:
    """Return what the kernels cannot compute, in words; None if they can compute all of it."""
    foreign = _foreign(spec)
    if foreign is not None:
        return f"layer {foreign.name!r} of kind {foreign.kind!r}"
    if not live_layers(spec):
        return "a network without layers"
    features = spec.features
    if features.frame:
        return "frames as inputs"
    unknown = [clock for clock in features.clocks if clock not in CLOCK_KINDS]
    if unknown:
        return f"the clock {unknown[0]!r}"
    return None if spec.head.kind in HEAD_KINDS else f"a head of kind {spec.head.kind!r}"


def _foreign(spec: NetworkSpec) -> LayerSpec | None:
    """Return the first layer that the kernels do not compute."""
    live = [layer for layer in spec.layers if layer.kind not in IGNORED]
    before = ""
    for layer in spec.layers:
        follows = layer.kind in ACTIVATIONS and not layer.inputs and before in LINEAR
        if layer.kind == "softmax" and layer is not live[-1]:
            follows = False
        if not (_known(layer) or follows):
            return layer
        before = before if layer.kind in IGNORED else layer.kind
    return None


def _known(layer: LayerSpec) -> bool:
    """Tell whether the kernels compute a layer with its options."""
    if layer.inputs or layer.kind not in {*PACKED, *IGNORED, *LINEAR}:
        return False
    if layer.kind == "conv1d":
        conv = Conv1dOptions.model_validate(layer.options)
        return conv.padding == CAUSAL and conv.stride == 1 and conv.padding_value == 0
    if layer.kind in {*IGNORED, *LINEAR}:
        return True
    kind = KINDS[layer.kind].options
    options, free = kind.model_validate(layer.options), ONLY_IN_TRAINING | _ANY_VALUE
    odd = {n for n, v in options if n not in free and v != kind.model_fields[n].default}
    return not odd and getattr(options, "reset", None) != "before-multiplication"
