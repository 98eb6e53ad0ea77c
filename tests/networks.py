"""Networks and inputs that several tests share."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from forecastd.features.encoder import Inputs
from forecastd.features.spec import FeatureSpec
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape as LayerShape
from forecastd.network.layers.contract import Layer
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec, lstm_chain
from forecastd.network.wiring import wire

CHANNELS, CLOCKS, CATEGORIES = 2, 1, 4

SPECS = {
    "lstm_quantile": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 12.0, 16, 3, (CATEGORIES,)),
        lstm_chain(8, 1, 0.3, "sequence"),
        HeadSpec("quantile", 5, (0.1, 0.5, 0.9), 16),
    ),
    "two_layers": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 5.0, 7, 2, (CATEGORIES,)),
        lstm_chain(6, 2, 0.2, "sequence"),
        HeadSpec("quantile", 3, (0.025, 0.1, 0.5, 0.9, 0.975), 7),
    ),
    "point_without_lags": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 0, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("point", 4, (), 0),
    ),
    "gaussian": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 3, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("gaussian", 2, (0.1, 0.5, 0.9), 3),
    ),
}

MORE_SPECS = {
    "student_t": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 0, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("student_t", 2, (0.1, 0.5, 0.9), 0),
    ),
    "counts": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 2, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("negative_binomial", 2, (0.1, 0.5, 0.9), 2),
    ),
}
"""Networks whose quantiles take many more operations: few suites run over them."""

SUPERVISED_SPECS = {
    "responses": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 0, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("responses", 1, (), 0, 2),
    ),
    "classes": NetworkSpec(
        FeatureSpec(CHANNELS, ("hour",), 24.0, 0, 0, (CATEGORIES,)),
        lstm_chain(4, 1, 0.0, "sequence"),
        HeadSpec("classes", 1, (), 0, 3),
    ),
}
"""Networks that say what the target is now."""

specs = st.builds(
    NetworkSpec,
    st.builds(
        FeatureSpec,
        st.integers(1, 9),
        st.lists(st.sampled_from(["hour", "weekday"])).map(tuple),
        st.floats(0.1, 1e6),
        st.integers(0, 500),
        st.integers(0, 9),
        st.lists(st.integers(1, 99)).map(tuple),
    ),
    st.builds(
        lstm_chain,
        st.integers(1, 99),
        st.integers(1, 4),
        st.floats(0, 0.9),
        st.sampled_from(["sequence", "last"]),
    ),
    st.builds(
        HeadSpec,
        st.sampled_from(["point", "quantile"]),
        st.integers(1, 99),
        st.lists(st.floats(0.01, 0.99)).map(tuple),
        st.integers(0, 500),
    )
    | st.builds(
        HeadSpec,
        st.sampled_from(["gaussian", "student_t", "negative_binomial"]),
        st.integers(1, 99),
        st.lists(st.floats(0.01, 0.99), min_size=1).map(tuple),
        st.integers(0, 500),
    )
    | st.builds(
        HeadSpec,
        st.sampled_from(["responses", "classes"]),
        st.just(1),
        outputs=st.integers(2, 99),
    ),
)
"""Specs that are right, of any size."""


def network(spec: NetworkSpec, dtype: torch.dtype, seed: int = 0) -> ForecastNetwork:
    """Return a random network in evaluation mode whose highway is not zero."""
    torch.manual_seed(seed)
    made = ForecastNetwork(spec)
    highway = getattr(made.head, "highway", None)
    if highway is not None:
        torch.nn.init.normal_(highway.weight, std=0.2)
    return made.to(dtype).eval()


def inputs(series: int, steps: int, seed: int, dtype: torch.dtype) -> Inputs:
    """Return series as they are found: walks, far from zero, constant, with holes, all missing.

    The values are float32 numbers whatever `dtype`, as in the store.
    """
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(series, steps, CHANNELS)).cumsum(1) * 3 + 1000
    values[dice.random(values.shape) < 0.2] = np.nan
    kinds = dice.integers(0, 5, series)
    values[kinds == 1] = 5.0
    values[kinds == 2, : steps // 3] = np.nan
    values[kinds == 3] *= 1e-6
    values[kinds == 4, :, 0] = np.nan
    codes = dice.integers(0, CATEGORIES, (series, 1))
    return Inputs(
        torch.from_numpy(values.astype(np.float32)).to(dtype),
        torch.from_numpy(dice.normal(size=(series, steps, 2 * CLOCKS))).to(dtype),
        torch.from_numpy(codes),
    )


def cut(x: Inputs, steps: slice) -> Inputs:
    """Return some of the steps."""
    return Inputs(x.values[:, steps], x.clocks[:, steps], x.codes)


def layer(kind: str, width: int | tuple[int, ...], **options: object) -> Layer:
    """Return a layer by itself, made as a network makes it, fed with features or with frames."""
    sizes = (width,) if isinstance(width, int) else width
    wiring = wire([LayerSpec("only", kind, options)], LayerShape(sizes))
    return LayerGraph(wiring).layer("only")
