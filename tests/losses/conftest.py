"""Kernels without a GPU: Triton's interpreter runs them on the CPU, see tests/conftest.py."""

import pytest

from delete_tasks.losses import kernels


@pytest.fixture(scope="module", params=["torch", "triton"])
def implementation(request):
    """Name of the implementation of the loss; 'triton' runs on the CPU, for its dtypes."""
    if request.param == "torch":
        yield request.param
        return
    pytest.importorskip("triton", reason="Triton is not installed (extra 'kernels')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "runs_on", lambda tensor: tensor.dtype in kernels.DTYPES)
        yield request.param
