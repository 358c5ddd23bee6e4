"""A Triton model repository: its schema is Triton's, its wiring gives the classifier's answers."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest

import fic_export
from fic_export.errors import OutputError
from fic_export.triton import check_triton, export_triton
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.classifier import Classifier
from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing
from tests.export.conftest import known_score

LABELS = ("Gänseblümchen", "バラ の花", "tulip")
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=24, width=32), pixels=Pixels(scale=(0.01, 0.01, 0.01))
)
FILES = {
    "bundle.json",
    "classifier/1/.keep",
    "classifier/config.pbtxt",
    "classifier/labels.txt",
    "classifier_base/1/model.onnx",
    "classifier_base/config.pbtxt",
    "classifier_head/1/model.onnx",
    "classifier_head/config.pbtxt",
    "classifier_head/labels.txt",
}
FILES_OF_THE_SCORE = {"classifier_ood/1/model.onnx", "classifier_ood/config.pbtxt"}


@pytest.fixture(scope="module", params=["vector", "map"])
def models(request):
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((24, 32, 3)), keras.layers.Conv2D(6, 3, strides=4, activation="relu")]
    if request.param == "vector":
        layers.append(keras.layers.GlobalAveragePooling2D())
    base = keras.Sequential(layers)
    head = keras.Sequential(
        [
            keras.Input(base.output_shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(len(LABELS), activation="softmax"),
        ]
    )
    return base, head


@pytest.fixture(scope="module")
def bundle(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("triton") / "bundle.zip"
    fic_export.export_bundle(
        *models,
        labels=LABELS,
        preprocessing=PREPROCESSING,
        out=out,
        ood_score=known_score(),
    )
    return out


@pytest.fixture(scope="module")
def repository(bundle):
    out = bundle.with_name("models")
    export_triton(bundle, out, max_batch_size=8, with_bottleneck=True)
    return out


@pytest.fixture(scope="module")
def read_config(repository):
    """Return a function that parses a model's configuration by Triton's own schema."""
    pytest.importorskip("tritonclient")
    with warnings.catch_warnings():
        # Protobuf tells that the schema was compiled by an older release of it.
        warnings.simplefilter("ignore")
        schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")

    def read(model):
        text = (repository / model / "config.pbtxt").read_text("utf-8")
        return text_format.Parse(text, schema.ModelConfig())

    return read


def files_of(repository):
    return {str(each.relative_to(repository)) for each in repository.rglob("*") if each.is_file()}


def test_the_repository_holds_four_models_and_nothing_is_left_beside_it(repository):
    assert files_of(repository) == FILES | FILES_OF_THE_SCORE
    assert sorted(each.name for each in repository.parent.iterdir()) == ["bundle.zip", "models"]


@pytest.mark.parametrize(
    ("model", "platform"),
    [
        ("classifier", "ensemble"),
        ("classifier_base", "onnxruntime_onnx"),
        ("classifier_head", "onnxruntime_onnx"),
        ("classifier_ood", "onnxruntime_onnx"),
    ],
)
def test_each_configuration_is_of_tritons_schema(model, platform, read_config):
    config = read_config(model)
    # Triton wants the name of the folder.
    assert (config.name, config.platform, config.max_batch_size) == (model, platform, 8)
    assert config.WhichOneof("scheduling_choice") == (
        "ensemble_scheduling" if platform == "ensemble" else "dynamic_batching"
    )


@pytest.mark.parametrize("part", ["base", "head", "ood"])
def test_names_types_and_sizes_are_those_of_the_graph(part, repository, read_config):
    graph = onnx.load(repository / f"classifier_{part}/1/model.onnx").graph
    config = read_config(f"classifier_{part}")
    types = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
    for end, found in (
        *zip(graph.input, config.input, strict=True),
        *zip(graph.output, config.output, strict=True),
    ):
        tensor = end.type.tensor_type
        name_of = type(found).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        assert found.name == end.name
        assert name_of[found.data_type].name == types[tensor.elem_type]
        assert list(found.dims) == [each.dim_value for each in tensor.shape.dim[1:]]


def test_the_ensemble_wired_as_configured_gives_what_the_classifier_gives(
    bundle, repository, read_config
):
    config = read_config("classifier")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
    (taken,) = config.input
    assert tuple(taken.dims) == pixels.shape[1:]
    tensors = {taken.name: pixels}
    for step in config.ensemble_scheduling.step:
        model = repository / step.model_name / "1/model.onnx"
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        inputs = {name: tensors[tensor] for name, tensor in step.input_map.items()}
        names = list(step.output_map)
        for name, value in zip(names, session.run(names, inputs), strict=True):
            tensors[step.output_map[name]] = value
    with Classifier(bundle, device="cpu") as classifier:
        bottlenecks, probabilities = classifier.run(pixels)
        predictions = classifier.predict_batch(pixels)
    scores = np.array([[each.ood_score] for each in predictions])
    assert [output.name for output in config.output] == ["probabilities", "ood_score", "bottleneck"]
    for given, expected in zip(config.output, (probabilities, scores, bottlenecks), strict=True):
        np.testing.assert_allclose(tensors[given.name], expected, rtol=0, atol=1e-5)
        assert tensors[given.name].shape == (5, *given.dims)
    threshold = float(config.parameters["ood_threshold"].string_value)
    assert [each.known for each in predictions] == list(scores[:, 0] <= threshold)


def test_the_model_of_the_score_says_its_threshold_in_both_places(repository, read_config):
    model = onnx.load(repository / "classifier_ood/1/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {each.key: each.value for each in model.metadata_props}
    parameters = read_config("classifier_ood").parameters
    assert said == {"ood_threshold": "0.25"}
    assert {key: value.string_value for key, value in parameters.items()} == said


def test_without_a_score_the_ensemble_gives_probabilities_alone(models, tmp_path):
    bundle, out = tmp_path / "bundle", tmp_path / "models"
    fic_export.export_bundle(*models, labels=LABELS, preprocessing=PREPROCESSING, out=bundle)
    export_triton(bundle, out)
    assert files_of(out) == FILES
    config = (out / "classifier/config.pbtxt").read_text("utf-8")
    assert config.count("output [") == 1
    assert "ood" not in config
    export_triton(bundle, out, name="again")  # an earlier one without a score is replaced, too
    assert not (out / "classifier").exists()


@pytest.mark.parametrize("model", ["classifier", "classifier_head"])
def test_the_probabilities_are_labelled(model, repository, read_config):
    output, *others = read_config(model).output
    assert not any(other.label_filename for other in others)
    lines = (repository / model / output.label_filename).read_text("utf-8").splitlines()
    assert tuple(lines) == LABELS


def test_clients_find_how_a_picture_becomes_the_input(repository):
    manifest = Manifest.from_json((repository / "bundle.json").read_text("utf-8"))
    assert manifest.preprocessing == PREPROCESSING


def test_classifiers_of_one_server_have_names_of_their_own(bundle, tmp_path):
    export_triton(bundle, tmp_path / "models", name="flowers-2.1")
    folders = sorted(each.name for each in (tmp_path / "models").iterdir() if each.is_dir())
    names = ["flowers-2.1", "flowers-2.1_base", "flowers-2.1_head", "flowers-2.1_ood"]
    assert folders == names
    assert 'model_name: "flowers-2.1_head"' in (
        tmp_path / "models/flowers-2.1/config.pbtxt"
    ).read_text("utf-8")


def test_an_earlier_repository_is_replaced_and_other_files_are_not(bundle, tmp_path):
    export_triton(bundle, tmp_path / "models", name="old")
    export_triton(bundle, tmp_path / "models", name="new")
    assert not (tmp_path / "models/old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_text("precious")
    with pytest.raises(OutputError, match=r"holds other files and no bundle\.json"):
        export_triton(bundle, tmp_path / "mine")
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["photo.jpg"]


def test_a_damaged_bundle_gives_no_repository(bundle, tmp_path):
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(BundleError):
        export_triton(tmp_path / "b.zip", tmp_path / "models")
    assert [each.name for each in tmp_path.iterdir()] == ["b.zip"]


def test_a_head_without_its_base_gives_no_repository(models, tmp_path):
    out = tmp_path / "head"
    fic_export.export_head(*models, labels=LABELS, preprocessing=PREPROCESSING, out=out)
    with pytest.raises(BundleError, match="is a head without its base"):
        export_triton(tmp_path / "head", tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["head"]


@pytest.mark.parametrize("name", ["", "a/b", "..", 'a"b', "a b", "dot."])
def test_a_name_that_is_no_folder_is_a_slip(name, bundle, tmp_path):
    with pytest.raises(ValueError, match="name is made of letters"):
        export_triton(bundle, tmp_path / "models", name=name)


def test_a_batch_of_nothing_is_a_slip(bundle, tmp_path):
    with pytest.raises(ValueError, match="max_batch_size is at least 1; received 0"):
        export_triton(bundle, tmp_path / "models", max_batch_size=0)


@pytest.mark.parametrize(
    ("out", "name", "message"),
    [
        ("bundle", "classifier", "is the place of the bundle, too"),
        ("bundle/models", "classifier", "is the place of the bundle, too"),
        (".", "classifier", "is the place of the bundle, too"),
        ("file", "classifier", "is a file"),
        ("models", "a b", "name is made of letters"),
    ],
)
def test_a_place_or_name_that_cannot_be_is_told_before_the_export(out, name, message, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        check_triton(tmp_path / out, name=name, bundle=tmp_path / "bundle")
