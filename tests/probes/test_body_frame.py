"""In the frame of two bodies indices stay uniform under the null, however alike the bodies are; a copy that kept them is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.align.test_agreement import disguise, draw_body

from homolog.align.body import Body
from homolog.align.residual import Frame
from homolog.align.rotation import fit_body_frame
from homolog.lab.disguises import draw_rotation
from homolog.probes.indices import IndexTest, Rngs, index_test, index_test_within


def generators(seed: int) -> Rngs:
    return lambda purpose: np.random.default_rng([seed, *purpose.encode()])


def index_units(a: Body, b: Body, frame: Frame, seed: int) -> IndexTest:
    parts = [[part @ basis for part in body.blocks[0].units.parts[:2]] for body, basis in ((a, frame.a), (b, frame.b))]
    return index_test(*parts, same_axis=True, rngs=generators(seed))


def same_job(seed: int) -> tuple[Body, Body, Frame]:
    """The worst that the null allows: B found the very units of A, in a basis of its own, and their indices are its own too."""
    rng = np.random.default_rng(seed)
    a = draw_body(rng, layers=2, units=24, width=12)
    b = disguise(a, rng, noise=0.05)
    return a, b, fit_body_frame(a, b)[0]


@pytest.mark.parametrize("draws", [60, pytest.param(3000, marks=pytest.mark.nulls)])
def test_units_of_equal_jobs_carry_no_equal_indices(draws: int) -> None:
    p, matched = [], []
    for seed in range(draws):
        found = index_units(*same_job(seed), seed)
        p.append(10**found.log10_p)
        matched.append(found.matched)
    assert np.median(matched) > 20  # the frame is good: units of equal jobs are matched
    for level in (0.5, 0.2, 0.05, 0.01):
        assert sum(value <= level for value in p) <= draws * level + 4 * (draws * level) ** 0.5


@pytest.mark.parametrize("draws", [60, pytest.param(3000, marks=pytest.mark.nulls)])
def test_tokens_that_no_training_told_apart_carry_no_equal_names(draws: int) -> None:
    p = []
    for seed in range(draws):
        _, _, frame = same_job(seed)
        rng = np.random.default_rng([seed, 1])
        rows = rng.standard_normal((13, 12)).astype(np.float32)
        # rows of equal values in both models, which token has which settled by lot
        others = np.asarray((rows[rng.permutation(13)] @ frame.a) @ frame.b.T, dtype=np.float32)
        found = index_test_within([rows @ frame.a], [others @ frame.b], rngs=generators(seed))
        p.append(10**found.log10_p)
    for level in (0.5, 0.2, 0.05, 0.01):
        assert sum(value <= level for value in p) <= draws * level + 4 * (draws * level) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_rotated_copy_that_kept_its_indices_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = draw_body(rng, layers=2, units=24, width=12)
    turn = draw_rotation(rng, 12).astype(np.float32)
    blocks = []
    for block in a.blocks:
        assert block.units.up is not None
        turned = [np.asarray(part @ turn, dtype=np.float32) for part in block.units.parts]
        units = replace(block.units, gate=turned[0], up=turned[1], down=turned[2])
        blocks.append(replace(block, units=units))
    b = replace(a, blocks=tuple(blocks))
    assert index_units(a, b, fit_body_frame(a, b)[0], seed).log10_p < -15
