"""`Classifier` in Chromium: the pixels and answers of fic-runtime, and a tab that lives."""

import csv
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fic_runtime.classifier import Classifier
from fic_runtime.errors import ImageError
from fic_runtime.images import load_image

from .picture_files import drawing, encoded, every_file, turned

DATA = Path(__file__).parents[1] / "data"
FILES = {name: (content, levels) for name, content, levels in every_file()}

OPENED = """
    const { Classifier, drawHeat } = await import("/dist/fic-runtime-web.js");
    globalThis.opened ??= new Map();
    const open = async (name = "explaining") => {
        if (!opened.has(name)) opened.set(name, await Classifier.open(`/${name}/`));
        return opened.get(name);
    };
    const file = async (name) => new File([await (await fetch(`/files/${name}`)).blob()], name);
"""


@pytest.fixture(scope="module")
def folder(built, explaining, cautious, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(built, folder / "dist", copy_function=os.link)
    shutil.copytree(explaining, folder / "explaining")
    shutil.copytree(cautious, folder / "cautious")
    shutil.copytree(DATA / "bundle-v1", folder / "bundle-v1")
    shutil.copytree(DATA / "before-wings/photos", folder / "files")
    whole_jpegs(DATA / "before-wings/bundle.zip", folder / "whole")
    (folder / "index.html").write_text('<!doctype html><link rel=icon href="data:,">')
    for number, (content, _) in enumerate(FILES.values()):
        (folder / f"files/{number}").write_bytes(content)
    (folder / "files/photo.png").write_bytes(encoded("PNG"))
    (folder / "files/turned.webp").write_bytes(turned("WebP", 6))
    return folder


def whole_jpegs(archive, folder):
    """Unpack a bundle, and let it decode JPEGs at their whole size, as browsers do."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    values = json.loads((folder / "manifest.json").read_text("utf-8"))
    values["preprocessing"]["geometry"]["jpeg_margin"] = 0
    (folder / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture(scope="module")
def tab(browser, serve, folder):
    """Return a function that runs the body of an async function beside an open classifier."""
    browser.open(serve(folder))
    yield lambda body, *arguments: browser.run(OPENED + body, *arguments)
    assert browser.complaints() == []


@pytest.fixture(scope="module")
def pixels(tab):
    found = tab(
        "const each = [];"
        "for (let i = 0; i < args[0]; i++)"
        "  each.push(await (await open()).pixels(await file(i))"
        "    .then((pixels) => [...pixels], (error) => error.message));"
        "return each;",
        len(FILES),
    )
    assert isinstance(found, list), found
    return dict(zip(FILES, found, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_fic_runtime(pixels, explaining, name):
    content, levels = FILES[name]
    with Classifier(explaining, device="cpu") as classifier:
        expected = load_image(content, classifier.manifest.preprocessing.geometry)
    assert isinstance(pixels[name], list), pixels[name]
    difference = np.abs(np.array(pixels[name]).reshape(expected.shape) - expected.astype(int))
    assert difference.max() <= levels


@pytest.mark.parametrize("bundle", ["explaining", "cautious", "bundle-v1"])
def test_recorded_results_are_met(tab, bundle):
    found = tab("return (await open(args[0])).selfTest();", bundle)
    assert found["passed"], found
    assert found["pixels"] <= 2


def test_photos_get_the_answers_of_fic_runtime(tab, folder):
    photos = sorted((DATA / "before-wings/photos").rglob("*.jpg"))
    check_answers(tab, photos, folder)


def test_real_photos_get_the_answers_of_fic_runtime(tab, shared, folder):
    photos = sorted((shared / "photos/flowers").rglob("*.jpg"))[::90]
    for photo in photos:
        (folder / "files" / photo.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(photo, folder / "files" / photo.parent.name / photo.name)
    check_answers(tab, photos, folder)


def check_answers(tab, photos, folder):
    names = [f"{photo.parent.name}/{photo.name}" for photo in photos]
    found = tab(
        "const classifier = await open('whole');"
        "const answers = [];"
        "for (const name of args[0]) {"
        "  const { index, known, probabilities } = await classifier.predict(await file(name));"
        "  answers.push([index, known, [...probabilities]]);"
        "}"
        "return answers;",
        names,
    )
    assert isinstance(found, list), found
    with Classifier(folder / "whole", device="cpu") as classifier:
        for photo, (index, known, probabilities) in zip(photos, found, strict=True):
            expected = classifier.predict(photo)
            assert np.abs(np.array(probabilities) - expected.probabilities).max() <= 0.02, photo
            first, second = expected.top(2)
            if first.probability - second.probability > 0.01:  # no tie
                assert (index, known) == (expected.index, expected.known), photo


def test_every_kind_of_picture_is_taken(tab):
    found = tab(
        """
        const classifier = await open();
        const blob = await file("photo.png");
        const image = new Image();
        image.src = URL.createObjectURL(blob);
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height);
        const { width, height } = data;
        const rgb = { width, height, data: data.data.filter((_, i) => i % 4 < 3) };
        const offscreen = new OffscreenCanvas(canvas.width, canvas.height);
        offscreen.getContext("2d").drawImage(image, 0, 0);
        const bitmap = await createImageBitmap(blob);
        const answers = [];
        for (const picture of [blob, image, canvas, data, rgb, offscreen, bitmap])
            answers.push([...(await classifier.predict(picture)).probabilities]);
        const detached = image.naturalWidth === canvas.width && data.data.length > 0;
        return { answers, detached };
        """
    )
    first, *others = found["answers"]
    assert len(others) == 6
    assert all(other == first for other in others)
    assert found["detached"]


def test_an_image_element_is_turned_as_its_file_says(tab):
    """Chromium ignores the orientation of WebP."""
    found = tab(
        """
        const image = new Image();
        image.src = "/files/turned.webp";
        await image.decode();
        const classifier = await open();
        const same = await classifier.pixels(await file("turned.webp"));
        return [[...(await classifier.pixels(image))], [...same]];
        """
    )
    assert found[0] == found[1]


def test_a_video_is_taken_once_it_has_a_frame(tab):
    found = tab(
        """
        const classifier = await open();
        const video = document.createElement("video");
        const early = await classifier.predict(video).catch((error) => error.message);
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [64, 48];
        const context = canvas.getContext("2d");
        context.fillStyle = "#f00";
        video.muted = true;
        video.srcObject = canvas.captureStream(30);
        const draw = setInterval(() => context.fillRect(0, 0, 64, 48), 20);
        await video.play();
        const { label } = await classifier.predict(video);
        clearInterval(draw);
        return { early, label };
        """
    )
    assert "no frame yet" in found["early"]
    assert found["label"] == "red"


def test_a_picture_is_told_from_unknown_ones(tab, cautious):
    pictures = [np.full((40, 50, 3), color, np.uint8) for color in ((255, 0, 0), (90, 90, 90))]
    with Classifier(cautious, device="cpu") as classifier:
        expected = [classifier.predict(each) for each in pictures]
    assert {each.known for each in expected} == {True, False}
    found = tab(
        "const classifier = await open('cautious');"
        "const answers = [];"
        "for (const data of args[0]) {"
        "  const picture = { width: 50, height: 40, data: Uint8Array.from(data) };"
        "  const { known, score } = await classifier.predict(picture);"
        "  answers.push([known, score]);"
        "}"
        "return answers;",
        [each.ravel().tolist() for each in pictures],
    )
    assert [known for known, _ in found] == [each.known for each in expected]
    np.testing.assert_allclose(
        [score for _, score in found], [e.ood_score for e in expected], atol=1e-5
    )


def test_top_is_in_order_and_ties_keep_that_of_the_labels(tab):
    found = tab(
        "const { Prediction } = await import('/dist/fic-runtime-web.js');"
        "const probabilities = [0.2, 0.3, 0.3, 0.2];"
        "const made = new Prediction({ probabilities }, ['a', 'b', 'c', 'd']);"
        "return made.top(3).map(({ label }) => label);"
    )
    assert found == ["b", "c", "a"]


def test_heat_is_that_of_fic_runtime(tab, explaining):
    picture = drawing()
    with Classifier(explaining, device="cpu") as classifier:
        expected = classifier.explain(picture, "blue")
    found = tab(
        "const picture = { width: args[1], height: args[0], data: Uint8Array.from(args[2]) };"
        "const seen = await (await open()).explain(picture, 'blue');"
        "const { heat, rows, columns, probability } = seen;"
        "return { heat: [...heat], shape: [rows, columns], probability };",
        *picture.shape[:2], picture.ravel().tolist(),
    )  # fmt: skip
    assert found["shape"] == list(expected.heat.shape)
    np.testing.assert_allclose(found["heat"], expected.heat.ravel(), atol=1e-3)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-4)


def test_heat_is_drawn_where_fic_runtime_draws_it(tab, explaining):
    picture = drawing()
    with Classifier(explaining, device="cpu") as classifier:
        expected = classifier.explain(picture, "blue").overlay(picture)
    found = tab(
        """
        const [height, width, pixels] = args;
        const picture = { width, height, data: Uint8Array.from(pixels) };
        const explanation = await (await open()).explain(picture, "blue");
        const canvas = new OffscreenCanvas(width, height);
        const context = canvas.getContext("2d");
        const rgba = Uint8ClampedArray.from({ length: width * height * 4 },
            (_, i) => (i % 4 === 3 ? 255 : pixels[Math.floor(i / 4) * 3 + (i % 4)]));
        context.putImageData(new ImageData(rgba, width), 0, 0);
        drawHeat(context, explanation);
        return [...context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 < 3)];
        """,
        *picture.shape[:2], picture.ravel().tolist(),
    )  # fmt: skip
    difference = np.abs(np.array(found).reshape(expected.shape) - expected.astype(int))
    assert difference.mean() < 2
    assert difference.max() <= 16


def test_after_close_nothing_hangs(tab):
    found = tab(
        "const classifier = await Classifier.open('/explaining/');"
        "const asked = classifier.predict(await file('photo.png')).catch((error) => error.message);"
        "classifier.close();"
        "const later = await classifier.extract(await file('photo.png')).catch((e) => e.message);"
        "return [await asked, later];"
    )
    assert all("closed" in message for message in found)


def test_what_cannot_be_opened_is_said_in_one_sentence(tab, browser):
    found = tab(
        "const failed = [];"
        "const places = ['/nowhere/', '/nowhere.zip', 'http://127.0.0.1:9/a/', new Blob(['x'])];"
        "for (const place of places)"
        "  failed.push(await Classifier.open(place)"
        "    .then(() => 'opened', (e) => `${e.name} ${e.message}`));"
        "failed.push(await Classifier.open('/explaining/', { worker: '/files/photo.png' })"
        "  .then(() => 'opened', (e) => `${e.name} ${e.message}`));"
        "return failed;"
    )
    assert [message.split()[0] for message in found] == ["BundleError"] * 4 + ["EngineError"]
    assert not any("\n" in message for message in found)
    browser.complaints()  # of the addresses where there is nothing


@pytest.fixture(scope="module")
def nasty(shared):
    folder = shared / "nasty"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared/nasty")
    return folder


def test_every_nasty_file_gives_an_answer_or_one_sentence(tab, nasty, folder, explaining):
    shutil.copytree(nasty, folder / "files/nasty", dirs_exist_ok=True)
    with (nasty / "LISTING.tsv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    found = tab(
        """
        const classifier = await open();
        const answers = {};
        for (const name of args[0]) {
            const blob = await file(`nasty/${encodeURIComponent(name)}`);
            answers[name] = await classifier.predict(blob).then(
                ({ probabilities }) => [...probabilities],
                (error) => `${error.name}: ${error.message}`,
            );
        }
        answers.afterwards = (await classifier.predict(await file("photo.png"))).label;
        return answers;
        """,
        [row["file"] for row in rows],
    )
    assert "error" not in found, found
    assert found.pop("afterwards") in ("red", "green", "blue")
    assert len(found) == len(rows)
    expected_of = {row["file"]: row["expect"] for row in rows}
    with Classifier(explaining, device="cpu") as classifier:
        for name, answer in found.items():
            if isinstance(answer, str):
                assert answer.startswith("ImageError: "), (name, answer)
                assert "\n" not in answer
                continue
            assert expected_of[name] != "fail", name
            try:
                expected = classifier.predict(nasty / name)
            except ImageError:
                assert expected_of[name] == "maybe", name  # which OpenCV cannot decode
                continue
            difference = np.abs(np.array(answer) - expected.probabilities).max()
            assert difference <= 0.02, name
