"""The part of `clients.py` in an engine's own environment: run a graph that is not of that engine.

    python benchmarks/client_engines.py ENGINE GRAPH PIXELS.npy ANSWERS.json OUTPUT ...

Pictures go through one at a time. Only NumPy and the engine are needed here, nothing of fic.
OUTPUT are the names of the graph's outputs in their order, for engines that do not keep names.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Answers = list[Array]  # to one picture, each with the batch of 1, in the order of the names
Engine = Callable[[Path, Sequence[Array], Sequence[str]], Iterator[Answers]]


def openvino(
    graph: Path, pictures: Sequence[Array], names: Sequence[str], **config: str
) -> Iterator[Answers]:
    """OpenVINO on the CPU."""
    from openvino import Core

    compiled = Core().compile_model(str(graph), "CPU", config)
    for picture in pictures:
        found = compiled(picture)
        yield [found[name] for name in names]


def openvino_f32(graph: Path, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """The same without 16-bit floats, which it takes on processors that have them."""
    return openvino(graph, pictures, names, INFERENCE_PRECISION_HINT="f32")


def onnxruntime_openvino(
    graph: Path, pictures: Sequence[Array], names: Sequence[str]
) -> Iterator[Answers]:
    """OpenVINO as an execution provider of ONNX Runtime."""
    import onnxruntime

    provider = "OpenVINOExecutionProvider"
    session = onnxruntime.InferenceSession(graph, providers=[provider])
    if provider not in session.get_providers():
        raise RuntimeError(f"{provider} is not there")
    return _session(session, pictures, names)


def opencv(graph: Path, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """OpenCV's module dnn, which before 5.0 takes float32 for any input."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(graph))
    for picture in pictures:
        net.setInput(picture if cv2.__version__ >= "5" else picture.astype(np.float32))
        yield list(net.forward(list(names)))


def tract(graph: Path, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """tract, of Rust, which wants to know the batch."""
    import tract

    model = tract.onnx().load(graph)
    shape = ",".join(map(str, pictures[0].shape))
    model.set_input_fact(0, f"{shape},{'f32' if pictures[0].dtype == np.float32 else 'u8'}")
    runnable = model.into_model().into_runnable()
    for picture in pictures:
        yield [value.to_numpy() for value in runnable.run([picture])]


def reference(graph: Path, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """ONNX's own evaluator, in NumPy: slow, and what the others are held to."""
    from onnx.reference import ReferenceEvaluator

    return _session(ReferenceEvaluator(str(graph)), pictures, names)


def ncnn(graph: Path, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """ncnn, of whose files pnnx makes one pair."""
    import ncnn as engine

    with tempfile.TemporaryDirectory(prefix="fic-clients-") as folder:
        copy = Path(folder) / "model.onnx"
        copy.write_bytes(graph.read_bytes())
        shape = ",".join(map(str, pictures[0].shape))
        # The program itself: the package around it imports torch.
        package = find_spec("pnnx")
        assert package is not None and package.origin is not None
        program = Path(package.origin).with_name("pnnx")
        _converted(program, str(copy), f"inputshape=[{shape}]", "fp16=0")
        net = engine.Net()
        net.load_param(str(copy.with_suffix(".ncnn.param")))
        net.load_model(str(copy.with_suffix(".ncnn.bin")))
        for picture in pictures:
            run = net.create_extractor()
            run.input("in0", engine.Mat(picture[0]).clone())
            yield [np.array(run.extract(f"out{number}")[1]) for number in range(len(names))]


ENGINES: dict[str, Engine] = {
    "openvino": openvino,
    "openvino_f32": openvino_f32,
    "onnxruntime_openvino": onnxruntime_openvino,
    "opencv": opencv,
    "tract": tract,
    "reference": reference,
    "ncnn": ncnn,
}


def _session(session: Any, pictures: Sequence[Array], names: Sequence[str]) -> Iterator[Answers]:
    """Run what has ONNX Runtime's interface."""
    for picture in pictures:
        yield session.run(list(names), {"image": picture})


def _converted(program: Path, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program.name}: {(done.stderr or done.stdout).strip()[-300:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("graph", type=Path)
    parser.add_argument("pixels", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("outputs", nargs="+", metavar="OUTPUT")
    options = parser.parse_args()
    pictures = [pixels[None] for pixels in np.load(options.pixels)]
    rows: dict[str, list[list[float]]] = {name: [] for name in options.outputs}
    for answers in ENGINES[options.engine](options.graph, pictures, options.outputs):
        for name, answer in zip(options.outputs, answers, strict=True):
            rows[name].append(np.asarray(answer).reshape(-1).tolist())
    options.answers.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
