import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import fill_cache, prepare
from fic.bottlenecks.cached import CacheUse, kept_digests
from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.data import Pictures, Source, read_pictures
from fic.digests import digest_file
from fic.errors import CacheError, DataError
from fic.options import BaseOptions, CacheOptions
from fic.progress import Silence
from fic_runtime.errors import ImageError

PICTURES = 24  # in `photos`


@pytest.fixture
def fill(photos: Path, base: BaseOptions) -> Callable[..., CacheUse]:
    """Return a function that fills a cache with the bottlenecks of `photos`."""

    def run(cache: CacheOptions, source: Source | None = None, **options: Any) -> CacheUse:
        return fill_cache(
            source or Source(data=photos, val_split=0.25), base=base, cache=cache, **options
        )

    return run


def pictures_of(folder: Path, cache: CacheOptions) -> Pictures:
    return read_pictures(
        Source(data=folder), memo=cache.memo, seed=0, on_error="skip", progress=Silence()
    )


def shards(cache: CacheOptions) -> list[Path]:
    return sorted(cache.bottleneck_dir.rglob("shard-*.h5"))


# --- what is extracted, and what is not -----------------------------------------------------------


def test_unchanged_pictures_are_extracted_once(
    fill: Callable[..., CacheUse], empty: CacheOptions
) -> None:
    first, second = fill(empty), fill(empty)
    assert (first.hits, first.extracted) == (0, PICTURES)
    assert (second.hits, second.extracted) == (PICTURES, 0)


def rename_files(photos: Path) -> None:
    for number, file in enumerate(sorted(photos.rglob("*.jpg"))):
        file.rename(file.with_name(f"IMG_{number}.jpeg"))


def move_into_folders(photos: Path) -> None:
    for file in sorted(photos.rglob("*.png")):
        (file.parent / "more").mkdir(exist_ok=True)
        file.rename(file.parent / "more" / file.name)


def rename_a_class(photos: Path) -> None:
    (photos / "red").rename(photos / "roses")


def relabel_a_picture(photos: Path) -> None:
    (photos / "red/1.png").rename(photos / "blue/from-red.png")


def touch(photos: Path) -> None:
    for file in photos.rglob("*.*"):
        file.touch()


@pytest.mark.parametrize(
    "change", [rename_files, move_into_folders, rename_a_class, relabel_a_picture, touch]
)
def test_pictures_that_only_move_are_not_extracted(
    fill: Callable[..., CacheUse],
    warm: CacheOptions,
    photos: Path,
    change: Callable[[Path], None],
) -> None:
    change(photos)
    use = fill(warm)
    assert (use.hits, use.extracted) == (PICTURES, 0)


@pytest.mark.parametrize(("val_split", "seed"), [(0.25, 5), (0.6, 0)])
def test_another_split_extracts_nothing(
    warm: CacheOptions, photos: Path, base: BaseOptions, val_split: float, seed: int
) -> None:
    pictures = read_pictures(
        Source(data=photos, val_split=val_split),
        memo=warm.memo,
        seed=seed,
        on_error="fail",
        progress=Silence(),
    )
    frozen = FrozenBase(base, warm.bottleneck_dir)
    assert prepare(pictures, frozen, warm, Silence())[-1].extracted == 0


def test_filling_gives_every_picture_all_views_whichever_side_it_may_be_on(
    fill: Callable[..., CacheUse], empty: CacheOptions
) -> None:
    assert fill(replace(empty, views=2)).extracted == 2 * PICTURES


def test_two_folders_and_one_share_their_bottlenecks(
    fill: Callable[..., CacheUse], warm: CacheOptions, photos: Path
) -> None:
    use = fill(warm, Source(train=photos, val=photos))
    assert (use.hits, use.extracted) == (PICTURES, 0)


def test_ten_new_pictures_are_ten_extractions(
    fill: Callable[..., CacheUse], warm: CacheOptions, photos: Path, make_photos: Any
) -> None:
    make_photos(photos, 5, labels=("blue", "green"), first=100)
    use = fill(warm)
    assert (use.hits, use.extracted) == (PICTURES, 10)


def test_the_same_bytes_twice_are_one_extraction(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path
) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "red/copy.jpg")
    shutil.copy(photos / "red/0.jpg", photos / "blue/copy.jpg")
    use = fill(empty)
    assert (use.hits, use.extracted, use.skipped) == (0, PICTURES, ())


def test_a_changed_picture_is_extracted_again(
    fill: Callable[..., CacheUse], warm: CacheOptions, photos: Path
) -> None:
    shutil.copy(photos / "red/0.jpg", photos / "red/2.jpg")
    picture = cv2.imread(str(photos / "red/4.jpg"))
    cv2.imwrite(str(photos / "red/4.jpg"), 255 - picture)
    use = fill(warm)
    assert (use.hits, use.extracted) == (PICTURES - 2, 1)


def test_deleting_the_memo_changes_nothing(
    fill: Callable[..., CacheUse], warm: CacheOptions
) -> None:
    warm.memo.unlink()
    assert fill(warm).extracted == 0


def test_the_parts_of_a_data_set_make_up_the_whole(
    fill: Callable[..., CacheUse], empty: CacheOptions
) -> None:
    parts = [fill(empty, shard=(part, 3)) for part in (1, 2, 3)]
    assert sum(part.extracted for part in parts) == PICTURES
    assert all(part.hits == 0 for part in parts)
    assert fill(empty).extracted == 0


def test_a_part_without_pictures_is_no_error(
    fill: Callable[..., CacheUse], warm: CacheOptions
) -> None:
    uses = [fill(warm, shard=(part, 200)) for part in range(1, 12)]
    assert min(use.hits for use in uses) == 0


def test_caches_are_merged_by_copying_shards(
    fill: Callable[..., CacheUse], empty: CacheOptions, tmp_path: Path
) -> None:
    fill(empty, shard=(1, 2))
    other = replace(empty, bottleneck_dir=tmp_path / "other machine")
    shutil.copytree(empty.bottleneck_dir, other.bottleneck_dir)
    for shard in shards(other):
        shard.unlink()
    fill(other, shard=(2, 2))
    for shard in shards(other):
        shutil.copy(shard, shards(empty)[0].parent)
    assert fill(empty).extracted == 0


def test_a_smaller_batch_gives_the_same_bottlenecks(
    base: BaseOptions, empty: CacheOptions, warm: CacheOptions, photos: Path, tmp_path: Path
) -> None:
    other = replace(empty, bottleneck_dir=tmp_path / "other", batch_size=5)
    shutil.copytree(empty.bottleneck_dir, other.bottleneck_dir)
    values = []
    for options in (replace(empty, batch_size=24), other):
        frozen = FrozenBase(base, options.bottleneck_dir)
        train, _, _ = prepare(pictures_of(photos, options), frozen, options, Silence())
        with train.cache:
            values.append(train.read(train.rows[:, 0]))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5 * np.abs(values[0]).max())


# --- views ----------------------------------------------------------------------------------------


def test_views_are_extracted_once_and_for_training_pictures_only(
    base: BaseOptions, warm: CacheOptions, photos: Path
) -> None:
    options = replace(warm, views=3)
    frozen = FrozenBase(base, warm.bottleneck_dir)
    pictures = pictures_of(photos, warm)
    uses = []
    for _ in range(2):
        train, val, use = prepare(pictures, frozen, options, Silence())
        train.cache.close()
        uses.append((use.hits, use.extracted))
    added = 2 * len(pictures.train)
    assert uses == [(PICTURES, added), (PICTURES + added, 0)]
    assert (train.rows.shape, val.rows.shape) == ((len(pictures.train), 3), (len(val), 1))


def test_the_first_view_is_the_plain_bottleneck(
    base: BaseOptions, warm: CacheOptions, photos: Path
) -> None:
    frozen = FrozenBase(base, warm.bottleneck_dir)
    pictures = pictures_of(photos, warm)
    train, _, _ = prepare(pictures, frozen, replace(warm, views=2), Silence())
    with train.cache as cache:
        keys = make_keys([(pictures.digests[path], 0) for path in train.dataset.paths])
        np.testing.assert_array_equal(train.rows[:, 0], cache.find(keys))
        plain, altered = (train.read(train.rows[:, view]) for view in (0, 1))
        assert np.abs(plain - altered).max() > 0.01 * np.abs(plain).max()


def test_fewer_views_need_no_extraction(fill: Callable[..., CacheUse], warm: CacheOptions) -> None:
    fill(replace(warm, views=3))
    assert fill(replace(warm, views=2)).extracted == 0


# --- pictures that cannot be read -----------------------------------------------------------------


def test_bad_pictures_are_left_out_and_listed(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path
) -> None:
    cut = photos / "red/0.jpg"
    cut.write_bytes(cut.read_bytes()[:600])
    (photos / "blue/1.png").write_bytes(b"no picture")
    (photos / "green/gone.jpg").symlink_to(photos / "nowhere.jpg")
    for _ in range(2):
        use = fill(empty)
        assert {each.path.name for each in use.skipped} == {"0.jpg", "1.png", "gone.jpg"}
        assert all(str(each.path) in each.reason for each in use.skipped)
    assert (use.hits, use.extracted) == (PICTURES - 2, 0)


def test_every_copy_of_a_bad_picture_is_listed(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path
) -> None:
    for name in ("red/0.jpg", "red/2.jpg", "blue/0.jpg"):
        (photos / name).write_bytes(b"no picture")
    assert len(fill(empty).skipped) == 3


@pytest.mark.parametrize("views", [1, 3])
def test_progress_adds_up(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path, recorder: Any, views: int
) -> None:
    fill(empty, shard=(1, 2))
    for name in ("red/0.jpg", "blue/0.jpg", "green/1.png"):
        (photos / name).write_bytes(name.encode())
    use = fill(replace(empty, views=views), progress=recorder)
    step = recorder.steps[-1]
    assert step["title"] == "extracting"
    assert step["done"] == use.hits + use.extracted
    assert step["done"] + step["skipped"] == step["total"]
    assert step["ended"]


def test_a_bad_picture_can_end_it(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path
) -> None:
    (photos / "green/2.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"green/2\.jpg"):
        fill(replace(empty, on_error="fail"))


def test_a_file_that_cannot_be_opened_can_end_it(
    fill: Callable[..., CacheUse], empty: CacheOptions, photos: Path
) -> None:
    (photos / "green/gone.jpg").symlink_to(photos / "nowhere.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        fill(replace(empty, on_error="fail"))


# --- the self-check -------------------------------------------------------------------------------


def spoil(cache: CacheOptions, base: BaseOptions, photos: Path, factor: float) -> Path:
    """Fill an empty cache with wrong bottlenecks under right checksums; return their shard."""
    fingerprint = FrozenBase(base, cache.bottleneck_dir).fingerprint
    digests = [digest_file(path) for path in sorted(photos.rglob("*.*g"))]
    frozen = FrozenBase(base, cache.bottleneck_dir)
    train, _, _ = prepare(pictures_of(photos, cache), frozen, cache, Silence())
    with train.cache as filled:
        keys = make_keys([(digest, 0) for digest in digests])
        values = filled.read(filled.find(keys))
    for shard in shards(cache):
        shard.unlink()
    with BottleneckCache(cache.bottleneck_dir, fingerprint) as fresh, fresh.writer() as writer:
        writer.add(keys, values * np.float32(factor))
    (shard,) = shards(cache)
    return shard


@pytest.mark.parametrize("factor", [1.02, 0.0])
def test_wrong_bottlenecks_stop_before_the_training(
    fill: Callable[..., CacheUse],
    base: BaseOptions,
    empty: CacheOptions,
    photos: Path,
    factor: float,
) -> None:
    shard = spoil(empty, base, photos, factor)
    with pytest.raises(CacheError) as caught:
        fill(empty)
    assert str(shard) in str(caught.value)
    assert "delete this shard" in str(caught.value)
    shard.unlink()
    assert fill(empty).extracted == PICTURES


def test_right_bottlenecks_pass_the_self_check(
    fill: Callable[..., CacheUse], base: BaseOptions, empty: CacheOptions, photos: Path
) -> None:
    spoil(empty, base, photos, 1.0)
    assert fill(empty).extracted == 0


def test_a_stale_memo_is_emptied_and_not_the_cache_blamed(
    fill: Callable[..., CacheUse],
    base: BaseOptions,
    warm: CacheOptions,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = pictures_of(photos, warm)
    for path in photos.rglob("*.*g"):  # as a memo that cannot tell would have it
        path.write_bytes((photos / "red/0.jpg").read_bytes())
    with pytest.raises(CacheError, match=r"has another content than .* remembered, .* run again"):
        prepare(pictures, FrozenBase(base, warm.bottleneck_dir), warm, Silence())
    (count,) = sqlite3.connect(warm.memo).execute("SELECT COUNT(*) FROM file_digests").fetchone()
    assert count == 0


def test_no_bottleneck_goes_under_the_digest_of_another_content(
    base: BaseOptions, empty: CacheOptions, photos: Path
) -> None:
    pictures = pictures_of(photos, empty)
    one, other = photos / "red/0.jpg", photos / "blue/0.jpg"
    contents = one.read_bytes(), other.read_bytes()
    for path, content in zip((other, one), contents, strict=True):
        path.write_bytes(content)
    frozen = FrozenBase(base, empty.bottleneck_dir)
    train, _, use = prepare(pictures, frozen, empty, Silence())
    train.cache.close()
    assert {each.path for each in use.skipped} == {one, other}
    assert all(
        "has another content than when it was looked up" in each.reason for each in use.skipped
    )
    train, _, use = prepare(pictures_of(photos, empty), frozen, empty, Silence())
    train.cache.close()
    assert (use.extracted, use.skipped) == (2, ())


def test_a_picture_that_is_gone_by_now_does_not_speak_against_the_cache(
    base: BaseOptions, warm: CacheOptions, photos: Path
) -> None:
    pictures = pictures_of(photos, warm)
    shutil.rmtree(photos)
    train, val, use = prepare(pictures, FrozenBase(base, warm.bottleneck_dir), warm, Silence())
    train.cache.close()
    assert (len(train) + len(val), use.extracted, use.skipped) == (PICTURES, 0, ())


# --- engines and element types --------------------------------------------------------------------


def test_one_cache_is_filled_by_either_engine(
    fill: Callable[..., CacheUse], empty: CacheOptions
) -> None:
    onnx = fill(replace(empty, engine="onnx"), shard=(1, 2))
    keras = fill(replace(empty, engine="keras"))
    assert (onnx.engine, keras.engine) == ("onnx", "keras")
    assert (keras.hits, keras.extracted) == (onnx.extracted, PICTURES - onnx.extracted)
    assert fill(replace(empty, engine="onnx")).hits == PICTURES


def test_pictures_of_a_csv_file_are_kept_on_both_sides(photos: Path, list_pictures: Any) -> None:
    file = list_pictures(photos, photos / "list.csv", val=2)
    assert kept_digests(file, Silence()) == kept_digests(photos, Silence())


def test_pictures_that_a_csv_file_marks_for_validation_get_the_plain_view(
    photos: Path, list_pictures: Any, fill: Any, empty: CacheOptions
) -> None:
    file = list_pictures(photos, photos / "list.csv", val=4)
    use = fill(replace(empty, views=2), source=Source(data=file))
    assert use.extracted == 2 * (PICTURES - 6) + 6


def test_kept_digests_are_those_of_all_views(photos: Path) -> None:
    kept = kept_digests(photos, Silence())
    assert len(kept) == 2 * PICTURES
    assert digest_file(photos / "red/0.jpg") in kept
