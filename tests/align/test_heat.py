"""Every layer against every layer: dark where a layer came from, once the frame is right, and nowhere in independent bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.align.test_agreement import disguise, draw_body

from homolog.align.agreement import measure_agreement
from homolog.align.heat import measure_heat
from homolog.align.residual import Frame


@pytest.mark.parametrize("gated", [True, False])
def test_heat_shows_where_layers_came_from_only_once_aligned(*, gated: bool) -> None:
    rng = np.random.default_rng(5)
    a = draw_body(rng, layers=4, units=60, gated=gated)
    hidden = disguise(a, rng, noise=0.05)
    # layers 2 and 0 of A, in this order
    b = replace(hidden, blocks=tuple(replace(hidden.blocks[source], layer=i) for i, source in enumerate((2, 0))))
    frame = measure_agreement(a, b).frame
    assert frame is not None
    heat = measure_heat(a, b, frame)
    assert heat is not None
    assert (heat.a, heat.b, heat.units) == ((0, 1, 2, 3), (0, 1), 128)
    fitted = np.array(heat.fitted)
    assert fitted[[0, 1], [2, 0]].min() > 0.9
    fitted[[0, 1], [2, 0]] = 0
    assert fitted.max() < 0.1
    assert heat.stored is not None
    assert np.max(heat.stored) < 0.2
    document = heat.to_json()
    assert [len(document["fitted"]), len(document["fitted"][0])] == [2, 4]


def test_heat_of_independent_bodies_is_cold() -> None:
    a, b = (draw_body(np.random.default_rng(seed), units=80) for seed in (1, 2))
    frame = measure_agreement(a, b).frame
    assert frame is not None
    heat = measure_heat(a, b, frame)
    assert heat is not None
    assert np.max(heat.fitted) < 0.2


def test_deep_bodies_are_thinned_and_other_widths_have_no_common_files() -> None:
    rng = np.random.default_rng(0)
    deep = draw_body(rng, layers=70, units=12, width=16)
    narrow = draw_body(rng, layers=3, units=12, width=12)
    frame = Frame(np.eye(16, 12, dtype=np.float32), np.eye(12, dtype=np.float32))
    heat = measure_heat(deep, narrow, frame)
    assert heat is not None
    assert heat.stored is None
    assert len(heat.a) == 32
    assert (heat.a[0], heat.a[-1]) == (0, 69)
    crowded = replace(deep, blocks=tuple(replace(block, layer=0) for block in deep.blocks))
    assert measure_heat(crowded, narrow, frame) is None
