"""What can be said of the images without building them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "Dockerfile.cpu", ROOT / "Dockerfile.gpu"]


def stages(file: Path) -> dict[str, str]:
    """Return the instructions of each stage, with those of the stages that it is built from."""
    found: dict[str, str] = {}
    for block in re.split(r"^(?=FROM )", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        parent, name = re.findall(r"^FROM (\S+) AS (\S+)", block)[0]
        found[name] = found.get(parent, "") + block
    return found


def copied_from(text: str) -> list[str]:
    return re.findall(r"COPY --from=(\S+)", text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_all_images_can_be_built(file: Path) -> None:
    assert {"train", "runtime", "serve"} <= stages(file).keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_runtime_is_built_where_no_image_is_named(file: Path) -> None:
    assert list(stages(file))[-1] == "runtime"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_server_is_asked_for_its_health_at_the_port_that_it_serves(file: Path) -> None:
    from fic_runtime.cli import _parser

    text = stages(file)["serve"]
    (command,) = re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE)
    options = _parser().parse_args(json.loads(command))
    assert (options.host, re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)) == (
        "0.0.0.0",
        [str(options.port)],
    )
    ((check,),) = [re.findall(r"^HEALTHCHECK .+\\\n +CMD (\[.+\])$", text, re.MULTILINE)]
    assert f"http://127.0.0.1:{options.port}/v2/health/ready" in json.loads(check)[-1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_server_comes_with_its_extra_and_without_training_or_tools(file: Path) -> None:
    known = stages(file)
    (source,) = copied_from(known["serve"])
    assert re.search(r"\./runtime(/gpu)?\[serve\]", known[source])
    assert "tensorflow" not in known[source]
    assert "pip" not in known["serve"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_images_start_from_a_tag_that_says_its_version(file: Path) -> None:
    text = file.read_text("utf-8")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    known = stages(file)
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        full = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
        assert image in known or re.search(r":\d+\.\d+", full), image


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
@pytest.mark.parametrize(
    ("target", "command"), [("train", "fic"), ("runtime", "fic-runtime"), ("serve", "fic-runtime")]
)
def test_an_image_runs_its_command_as_nobody_special(file: Path, target: str, command: str) -> None:
    text = stages(file)[target]
    assert f'ENTRYPOINT ["{command}"]' in text
    assert re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)[-1] != "0"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_runtime_image_holds_neither_training_nor_tools(file: Path) -> None:
    known = stages(file)
    (source,) = copied_from(known["runtime"])
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", known[source], re.MULTILINE)
    assert copied == ["runtime"]
    assert "tensorflow" not in known[source]
    assert "venv --without-pip" in known[source]
    assert "pip" not in known["runtime"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_exists_and_is_sent_to_the_builder(file: Path) -> None:
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", file.read_text("utf-8"), re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists()
            assert name in sent


def test_only_one_onnx_runtime_is_in_the_gpu_image_for_training() -> None:
    known = stages(ROOT / "Dockerfile.gpu")
    (source,) = copied_from(known["train"])
    text = known[source]
    steps = ["install --no-cache-dir", "uninstall --yes onnxruntime ", "onnxruntime-gpu=="]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


def test_the_gpu_image_for_running_has_the_distribution_for_gpus() -> None:
    known = stages(ROOT / "Dockerfile.gpu")
    (source,) = copied_from(known["runtime"])
    assert re.search(r"install [^&]*\./runtime/gpu ", known[source])
    assert not re.search(r"\./runtime(?!/gpu)\b", known[source])


@pytest.mark.parametrize("target", ["TRAIN", "RUNTIME"])
def test_the_onnx_runtime_is_built_for_the_cuda_of_its_image(target: str) -> None:
    """By their own metadata 1.22 to 1.26 are for CUDA 12, and 1.28 and later for CUDA 13."""
    text = (ROOT / "Dockerfile.gpu").read_text("utf-8")
    cuda = re.search(rf"^ARG {target}_CUDA=(\d+)", text, re.MULTILINE)
    onnxruntime = re.search(rf"^ARG {target}_ONNXRUNTIME=1\.(\d+)", text, re.MULTILINE)
    assert cuda and onnxruntime
    line = 12 if 22 <= int(onnxruntime[1]) <= 26 else 13 if int(onnxruntime[1]) >= 28 else None
    assert int(cuda[1]) == line
