import numpy as np
import pytest

from fic.cache.keys import key_digests, make_keys
from fic.digests import digest_bytes

DIGEST = digest_bytes(b"a picture")
OTHER = digest_bytes(b"another picture")


def test_the_key_of_the_plain_view_is_the_digest_and_a_zero() -> None:
    assert make_keys([(DIGEST, 0)]).view("u1").tobytes() == DIGEST + bytes(4)


def test_keys_are_those_that_existing_caches_hold() -> None:
    """A change here makes everyone extract all views again."""
    keys = make_keys([(bytes(16), 0), (bytes(16), 1), (bytes(16), 256)])
    assert keys.view("u1").tobytes().hex() == (
        "0000000000000000000000000000000000000000"
        "96a4ee3e49fd2ac12cec011f6a0eb55400000001"
        "96a4ee3e49fd2ac12cec011f6a0eb55400000100"
    )


def test_each_view_has_its_own_key() -> None:
    keys = make_keys([(DIGEST, 0), (DIGEST, 1), (DIGEST, 2), (DIGEST, 256), (OTHER, 1)])
    assert len(set(keys.tolist())) == 5


def test_another_recipe_hits_no_augmented_view_but_the_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = make_keys([(DIGEST, 0), (DIGEST, 1)])
    monkeypatch.setattr("fic.cache.keys.VIEW_RECIPE", b"something else")
    assert (make_keys([(DIGEST, 0), (DIGEST, 1)]) == before).tolist() == [True, False]


def test_key_digests_are_what_the_keys_begin_with() -> None:
    begins = [key.tobytes()[:16] for key in make_keys([(DIGEST, 0), (DIGEST, 1), (DIGEST, 7)])]
    plain, augmented = key_digests(DIGEST)
    assert begins == [plain, augmented, augmented]


def test_no_pictures_have_no_keys() -> None:
    assert make_keys([]).dtype == np.dtype("S20")
    assert len(make_keys([])) == 0


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        make_keys([(b"short", 0)])
