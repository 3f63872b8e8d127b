"""From a name to a model, without loading, downloading or connecting to anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tandem.config import Serving
from tandem.costs import rates
from tandem.errors import UsageError
from tandem.models.base import Model
from tandem.models.load import load_model
from tandem.models.openai import OpenAIModel
from tandem.models.transformers import TransformersModel
from tandem.models.vllm import state
from tandem.models.vllm.model import PooledModel
from tandem.models.vllm.served import Placement, ServedModel


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "home"


def test_fake_models_are_sized_by_their_role() -> None:
    mentor, intern = load_model("fake", role="mentor"), load_model("fake", role="intern")
    assert isinstance(mentor, Model)
    assert (mentor.spec.parameters, intern.spec.parameters) == (7e9, 1e9)
    assert mentor.spec.synthetic


def test_a_model_of_the_catalog_is_known_before_it_is_here(empty_home: Path) -> None:
    model = load_model("DeepSeek-7B", role="mentor")
    assert isinstance(model, TransformersModel)
    assert (model.spec.name, model.spec.parameters, model.spec.insight_mode) == ("deepseek-7b", 7e9, "prefix")
    assert model.spec.local
    assert not empty_home.exists()


def test_pinned_weights_give_the_revision() -> None:
    assert load_model("smollm2", role="intern").spec.revision == "b179c9523d0e"


def test_an_api_model_is_billed() -> None:
    model = load_model("gpt-4o", role="mentor")
    assert isinstance(model, OpenAIModel)
    assert not model.spec.local
    assert model.spec.prices is not None


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://10.1.2.3:8000/v1", True),
        ("http://gpu7:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://openrouter.ai/api/v1", False),
        ("https://8.8.8.8/v1", False),
    ],
)
def test_an_endpoint_elsewhere_is_not_free(endpoint: str, local: bool) -> None:
    for name in ("qwen2.5-7b", "my-own-model"):
        spec = load_model(name, role="intern", endpoint=endpoint).spec
        assert (spec.name, spec.local, spec.prices) == (name, local, None)
    assert not load_model("gpt-4o", role="mentor", endpoint=endpoint).spec.local


def test_a_size_that_the_user_gives_is_marked_as_assumed() -> None:
    spec = load_model("gpt-4o", role="mentor", parameters=200e9).spec
    assert spec.assumed_parameters
    assert rates(spec, "tflops", "intern").cost(prompt=0, cached=0, completion=1000) == pytest.approx(
        2 * 200e9 * 1000 / 1e12
    )
    known = load_model("deepseek-7b", role="mentor", parameters=9e9).spec
    assert (known.parameters, known.active_parameters, known.assumed_parameters) == (9e9, None, True)


@pytest.mark.parametrize(
    ("manifest", "folder", "name"),
    [
        ('{"name": "deepseek-7b"}', "anything", "deepseek-7b"),
        (None, "Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        (None, "my-finetune", "my-finetune"),
    ],
)
def test_a_folder_is_known_by_its_manifest_or_its_name(
    manifest: str | None, folder: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / folder
    path.mkdir()
    (path / "config.json").write_text("{}")
    if manifest:
        (path / "tandem.json").write_text(manifest)
    assert load_model(str(path), role="intern").spec.name == name


def test_a_hub_id_is_left_to_transformers() -> None:
    model = load_model("some-owner/some-model", role="intern")
    assert isinstance(model, TransformersModel)
    assert model.spec.name == "some-owner/some-model"


@pytest.mark.parametrize(
    ("name", "endpoint", "complaint"),
    [
        ("qwen2.5-7", None, r"unknown model 'qwen2.5-7'. Did you mean qwen2.5-7b"),
        ("fakes", None, "Did you mean fake"),
        ("./nowhere", None, "no model folder at './nowhere'"),
        ("/no/such/folder", None, "no model folder"),
        (" ", None, "the intern has no name"),
        ("fake", "http://localhost:1/v1", "no endpoint"),
        ("fake:nowhere.json", None, "nowhere.json"),
    ],
)
def test_a_name_that_leads_nowhere_is_bad_usage(name: str, endpoint: str | None, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_model(name, role="intern", endpoint=endpoint)


def test_a_folder_without_a_model_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_model(str(tmp_path), role="intern")


def test_a_package_can_add_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_backend.py").write_text(
        "from tandem.models.fake import FakeModel\n"
        "def make(spec, what, **options):\n"
        "    return FakeModel(name=f'{spec.backend} made {what}', parameters=spec.parameters)\n"
    )
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tandem.backends]\ntoy = toy_backend:make\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tandem.models.load.BACKENDS._plugins", None)  # it reads entry points once
    model = load_model("toy:some model", role="intern", parameters=3e9)
    assert (model.spec.name, model.spec.parameters) == ("toy made some model", 3e9)


def test_several_endpoints_are_one_pool() -> None:
    model = load_model("m", role="intern", endpoint="http://10.0.0.1:8000/v1, http://10.0.0.2:8000/v1")
    assert isinstance(model, PooledModel) and model.spec.local
    assert list(model.loads) == ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"]
    mixed = load_model("m", role="intern", endpoint="http://10.0.0.1:8000/v1,http://api.example.com/v1")
    assert not mixed.spec.local  # one of them may send a bill
    with pytest.raises(UsageError, match="an endpoint is missing in 'http://a/v1,'"):
        load_model("m", role="intern", endpoint="http://a/v1,")
    with pytest.raises(UsageError, match="each named once"):
        load_model("m", role="intern", endpoint="http://a/v1,http://a/v1/")


@pytest.mark.parametrize("backend", ["vllm", "auto"])  # the tests run where vLLM is installed
def test_local_weights_go_to_vllm_where_that_is_wanted(backend: Any, empty_home: Path) -> None:
    serving = Serving(replicas=2, vllm_args=("--max-num-seqs", "8"))
    model = load_model("smollm2", role="intern", backend=backend, placement=Placement(), serving=serving, timeout=5)
    assert isinstance(model, ServedModel) and model.spec.backend == "vllm"
    assert model.count("one two three") > 0 and model.serving.replicas == 2
    assert not empty_home.exists()  # nothing is fetched or started yet
    assert isinstance(load_model("smollm2", role="intern"), TransformersModel)


def test_a_standing_pool_of_the_model_is_used() -> None:
    replica = state.ReplicaState(url="http://127.0.0.1:9/v1", place="", log="", up=True)
    me = os.getpid()
    fields = {"uid": os.getuid(), "host": state.host(), "pid": me, "started": state.identity(me), "since": 0.0}
    pool = state.PoolState(name="mine", model="smollm2-135m", kind="standing", replicas=[replica], **fields)
    state.save(pool)
    model = load_model("smollm2", role="intern", backend="vllm")
    assert isinstance(model, PooledModel) and list(model.loads) == [replica.url]
    state.save(pool.model_copy(update={"kind": "run"}))  # another run's own replicas end with it
    assert isinstance(load_model("smollm2", role="intern", backend="vllm"), ServedModel)
