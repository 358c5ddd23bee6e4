"""Explanations: the heat lies over what speaks for the label, whatever became of the picture."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest

from fic_runtime import BundleError, Classifier, ImageError
from fic_runtime.cli.overlays import with_caption
from fic_runtime.images import read_image


@pytest.fixture
def able(golden, tmp_path):
    """Return a copy of a bundle that can explain; it knows `red`, `green` and `blue`."""
    return shutil.copytree(golden.parent / "explaining-bundle", tmp_path / "able")


def set_resize(bundle, resize):
    change(bundle, lambda values: values["preprocessing"]["geometry"].update(resize=resize))


def change(bundle, how):
    values = json.loads((bundle / "manifest.json").read_text("utf-8"))
    how(values)
    (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def with_square(height, width, top, left, side, colour=(255, 0, 0)):
    picture = grey(height, width)
    picture[top : top + side, left : left + side] = colour
    return picture


SQUARES = [(120, 300, 40, 170, 40), (300, 120, 130, 50, 40), (90, 110, 0, 0, 30)]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width", "top", "left", "side"), SQUARES)
def test_the_heat_lies_over_what_speaks_for_the_label(able, resize, height, width, top, left, side):
    set_resize(able, resize)
    picture = with_square(height, width, top, left, side)
    with Classifier(able) as classifier:
        found = classifier.explain(picture)
    heat = found.heat_over(height, width)
    assert (found.label, found.index) == ("red", 0)
    assert (heat.shape, heat.dtype) == ((height, width), np.float32)
    weights = np.clip(np.nan_to_num(heat) - np.nanmedian(heat), 0, None)
    middle = [np.average(each, weights=weights) for each in np.indices(heat.shape)]
    # To within half a place of the map, which the square may fill in part.
    assert middle == pytest.approx([top + side / 2, left + side / 2], abs=side / 4)


def test_what_crop_cuts_off_has_no_heat_and_stays_as_it_is(able):
    set_resize(able, "crop")
    picture = with_square(80, 200, 20, 0, 200)
    with Classifier(able) as classifier:
        found = classifier.explain(picture)
    unseen = np.isnan(found.heat_over(80, 200))
    assert unseen[:, :50].all()
    assert unseen[:, 150:].all()
    assert not unseen[:, 50:150].any()
    overlay = found.overlay(picture)
    np.testing.assert_array_equal(overlay[unseen], picture[unseen])
    assert (overlay[~unseen] != picture[~unseen]).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_heat_lies_right_over_a_photo_that_is_stored_on_its_side(able, orientation):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    stored = image.fromarray(with_square(90, 150, 10, 20, 40))
    stored.save(file, "PNG", exif=exif)
    data = file.getvalue()
    upright = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, "u1"), 1), cv2.COLOR_BGR2RGB)
    with Classifier(able) as classifier:
        found = classifier.explain(data)
        overlay = found.overlay(data)
    assert overlay.shape == classifier_view(data).shape
    heat = found.heat_over(*overlay.shape[:2])
    red = classifier_view(data)[..., 1] == 0
    assert heat[red].mean() > heat[~red].mean() + 3
    assert upright.size == overlay.size


def classifier_view(data):
    from fic_runtime.images import decode_image

    return decode_image(data)


def test_the_mean_of_the_heat_is_what_the_head_says(able):
    picture = with_square(64, 64, 8, 8, 50, (30, 90, 200))
    with Classifier(able) as classifier:
        logits = [
            classifier.explain(picture, label).heat.mean() for label in ("red", "green", "blue")
        ]
        probabilities = classifier.predict(picture).probabilities
        found = classifier.explain(picture)
    powers = np.exp(logits)
    np.testing.assert_allclose(powers / powers.sum(), probabilities, atol=1e-6)
    assert found.label == "blue"
    assert found.probability == probabilities.max()
    assert found.heat.shape == (8, 10)


def test_another_label_is_seen_elsewhere(able):
    picture = grey(80, 100)
    picture[:40, :50], picture[40:, 50:] = (255, 0, 0), (0, 0, 255)
    with Classifier(able) as classifier:
        red, blue = (classifier.explain(picture, label) for label in ("red", "blue"))
    assert red.heat[:4, :5].min() > red.heat[4:, 5:].max()
    assert blue.heat[:4, :5].max() < blue.heat[4:, 5:].min()


def test_where_nothing_speaks_for_a_label_the_picture_stays_as_it_is(able):
    picture = grey(70, 50)
    with Classifier(able) as classifier:
        found = classifier.explain(picture, "green")
    assert found.heat.max() < 0
    np.testing.assert_array_equal(found.overlay(picture), picture)


def test_an_overlay_changes_neither_its_picture_nor_more_than_its_opacity_allows(able):
    picture = with_square(400, 70, 10, 10, 30)  # more rows than one strip
    before = picture.copy()
    with Classifier(able) as classifier:
        found = classifier.explain(picture)
    np.testing.assert_array_equal(found.overlay(picture, opacity=0), picture)
    faint, strong = (
        np.abs(found.overlay(picture, opacity=opacity).astype(int) - picture).mean()
        for opacity in (0.2, 0.9)
    )
    assert 0 < faint < strong
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_out_of_range_is_a_slip(able, opacity):
    with Classifier(able) as classifier:
        found = classifier.explain(grey(9, 9))
    with pytest.raises(ValueError, match="opacity is 0 to 1"):
        found.overlay(grey(9, 9), opacity=opacity)
    with pytest.raises(ValueError, match="at least one pixel; received 0 x 9"):
        found.heat_over(0, 9)


def test_arrays_of_opencv_are_explained_and_drawn_in_their_order(able):
    picture = with_square(64, 80, 4, 4, 30)
    with Classifier(able) as rgb, Classifier(able, channel_order="bgr") as bgr:
        first, second = rgb.explain(picture), bgr.explain(picture[..., ::-1])
    assert first.probability == second.probability
    np.testing.assert_array_equal(first.heat, second.heat)
    np.testing.assert_array_equal(first.overlay(picture), second.overlay(picture[..., ::-1]))


def test_what_is_no_picture_is_said_to_be_none(able, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with Classifier(able) as classifier, pytest.raises(ImageError, match="not a picture"):
        classifier.explain(tmp_path / "x.jpg")


def test_a_bundle_without_its_feature_map_says_how_to_get_one(golden):
    again = "export it again with --with-feature-map"
    with Classifier(golden) as classifier, pytest.raises(BundleError, match=again):
        classifier.explain(golden / "large.png")


def test_an_unknown_label_is_answered_with_the_known_ones(able):
    known = "no label 'rot'; its labels are red, green, blue"
    with Classifier(able) as classifier, pytest.raises(BundleError, match=known):
        classifier.explain(grey(9, 9), "rot")


def test_the_files_may_go_once_a_classifier_that_can_explain_is_open(able):
    classifier = Classifier(able)
    shutil.rmtree(able)
    assert classifier.explain(with_square(64, 80, 4, 4, 30)).label == "red"


def test_a_feature_map_that_is_the_bottleneck_itself_needs_no_other_output(able):
    """Such a bundle has a base that is not pooled and a head that averages."""

    def not_pooled(values):
        output = values["feature_map"]["output"]
        output["name"], output["shape"] = "bottleneck", [None, 8, 10, 3]
        values["feature_map"]["layout"] = "nhwc"
        values["base"]["output"]["shape"] = values["head"]["input"]["shape"] = [None, 8, 10, 3]

    change(able, not_pooled)
    from fic_runtime.bundle import open_bundle

    assert open_bundle(able).manifest.further_outputs == ()


DAMAGE = {
    "layout": lambda m: m["feature_map"].update(layout="nchwc"),
    "no layout": lambda m: m["feature_map"].pop("layout"),
    "channels": lambda m: m["feature_map"]["output"].update(shape=[None, 4, 8, 10]),
    "dimensions": lambda m: m["feature_map"]["output"].update(shape=[None, 3, 80]),
    "type": lambda m: m["feature_map"]["output"].update(dtype="uint8"),
    "other layout": lambda m: m["feature_map"].update(layout="nhwc"),
    "name of the bottleneck": lambda m: m["feature_map"]["output"].update(name="bottleneck"),
    "name": lambda m: m["feature_map"]["output"].update(name="maps"),
    "no object": lambda m: m.update(feature_map=[1]),
    "figure": lambda m: m["feature_map"].update(largest_difference="small"),
    "missing": lambda m: m.pop("feature_map"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_manifest_that_tells_of_another_feature_map_is_refused(able, damage):
    change(able, DAMAGE[damage])
    with pytest.raises(BundleError, match="export the bundle again"):
        Classifier(able)


ARRAYS = {
    "no kernel": {"bias": np.zeros(3, "f4")},
    "another shape": {"kernel": np.zeros((4, 3), "f4"), "bias": np.zeros(3, "f4")},
    "another type": {"kernel": np.zeros((3, 3)), "bias": np.zeros(3, "f4")},
    "objects": {"kernel": np.array([{}]), "bias": np.zeros(3, "f4")},
}


@pytest.mark.parametrize("arrays", ARRAYS)
def test_class_weights_that_do_not_fit_are_refused(able, arrays):
    import hashlib

    np.savez(able / "class_weights.npz", **ARRAYS[arrays])
    digest = hashlib.sha256((able / "class_weights.npz").read_bytes()).hexdigest()
    change(able, lambda values: values["files"].update({"class_weights.npz": digest}))
    with pytest.raises(BundleError, match=r"class_weights\.npz: .*export the bundle again"):
        Classifier(able)


def test_the_command_writes_an_overlay_for_every_picture_of_a_folder(run, able, tmp_path):
    album = tmp_path / "album"
    for name in ("a/red.png", "b/red.png"):
        (album / name).parent.mkdir(parents=True)
        cv2.imwrite(str(album / name), with_square(64, 300, 9, 9, 30)[..., ::-1])
    (album / "b/x.jpg").write_bytes(b"no picture")
    code, out, err = run("explain", able, album, "--out", tmp_path / "seen")
    assert code == 1
    assert [line.split("\t")[1][:5] for line in out.splitlines()] == ["red 0", "red 0"]
    assert "x.jpg: not a picture" in err
    written = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert written == ["red.png-2.png", "red.png.png"]
    overlay = read_image(tmp_path / "seen/red.png.png")
    assert overlay.shape[1] == 300
    assert overlay.shape[0] > 64  # the caption


def test_the_command_writes_one_overlay_to_a_file(run, able, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), with_square(64, 80, 9, 9, 30))
    place = tmp_path / "seen.png"
    code, out, _ = run("explain", able, tmp_path / "p.png", "--out", place, "--label", "green")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'p.png'}\tgreen 0.")
    assert place.is_file()
    pictures = [tmp_path / "p.png", place]
    code, _, err = run("explain", able, *pictures, "--out", tmp_path / "one.png")
    assert (code, "give a folder" in err) == (1, True)
    assert not (tmp_path / "one.png").exists()
    code, _, err = run("explain", able, place, "--out", place)
    assert (code, "is the picture itself" in err) == (1, True)


def test_the_command_says_at_once_what_cannot_be_explained(run, able, golden, tmp_path):
    for bundle, options in ((golden, ()), (able, ("--label", "mauve"))):
        code, out, err = run(
            "explain", bundle, golden / "large.png", "--out", tmp_path / "seen", *options
        )
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert not (tmp_path / "seen").exists()


def test_a_place_that_cannot_be_written_is_named(run, able, golden, tmp_path):
    (tmp_path / "file").touch()
    for place in ("file/seen", "missing/seen.png"):
        code, _, err = run("explain", able, golden / "large.png", "--out", tmp_path / place)
        assert code == 1
        assert "give another path" in err


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (64, 2000), (2000, 64)])
def test_a_caption_fits_under_any_picture(able, size):
    with Classifier(able) as classifier:
        found = classifier.explain(grey(*size))
    drawn = with_caption(grey(*size), found)
    assert drawn.shape[1] >= 240
    strip = drawn[size[0] * drawn.shape[1] // size[1] :]
    assert (strip[:, : drawn.shape[1] // 2] < 128).any()  # letters
    assert len(strip) >= 20


def test_a_picture_that_is_not_known_is_marked_in_line_and_caption(run, able, tmp_path):
    picture = with_square(64, 80, 9, 9, 30)
    with Classifier(able) as classifier:
        plain = classifier.explain(picture)
    score = {"method": "maximum_probability", "threshold": -10.0, "file": None}
    change(able, lambda values: values.update(known={**score, "false_rejection": 0.05}))
    with Classifier(able) as classifier:
        found = classifier.explain(picture)
        assert found.ood_score == classifier.predict(picture).ood_score
    assert (plain.known, found.known) == (None, False)
    assert (with_caption(picture, plain) != with_caption(picture, found)).any()
    cv2.imwrite(str(tmp_path / "p.png"), picture[..., ::-1])
    _, out, _ = run("explain", able, tmp_path / "p.png", "--out", tmp_path / "seen.png")
    assert "  (unknown?)\t" in out
