"""What every adapter promises, for everything that it says it supports; see `backends.testing`."""

import pytest

from backends import Scheme, testing
from tests.backends.cases import SUPPORTED


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every supported case done once, and loaded again in one new process."""
    root = tmp_path_factory.mktemp("quantized")
    found = {case: testing.do(case, root) for case in SUPPORTED}
    testing.reload(found.values(), root)
    return found


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_the_contract_is_kept(case, check, done):
    check(done[case])


@pytest.mark.parametrize("case", SUPPORTED, ids=str)
def test_what_is_stored_gets_smaller(case, done):
    report = done[case].quantized.report
    if case.spec.scheme is not Scheme.NONE and case.backend != "reference":
        assert report.size_bytes < report.full_precision_bytes
        assert report.effective_bits < 16.2
        assert case.spec.recipe or report.effective_bits < 16.2
        stored = {5: 8, 6: 8}.get(case.spec.bits, case.spec.bits) if case.backend == "hqq" else case.spec.bits
        assert report.effective_bits >= stored


def test_the_default_leaves_the_tie(done):
    for case, one in done.items():
        plain = case.spec.modules == frozenset({"linear"}) and not case.spec.recipe and case.spec.rest == "fp32"
        if plain or case.backend in ("none", "cast"):
            model = one.quantized.model
            assert model.proj_out.weight is model.get_input_embeddings().weight
