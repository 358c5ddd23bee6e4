"""A bundle on disk: its files, its manifest, and the checks before anything of it is used."""

from .manifest import MANIFEST_FILE as MANIFEST_FILE
from .opening import BASE_FILE as BASE_FILE
from .opening import CARD_FILE as CARD_FILE
from .opening import CLASS_WEIGHTS_FILE as CLASS_WEIGHTS_FILE
from .opening import GOLDEN_FILE as GOLDEN_FILE
from .opening import HEAD_FILE as HEAD_FILE
from .opening import LABELS_FILE as LABELS_FILE
from .opening import TEACHING_FILE as TEACHING_FILE
from .opening import Bundle as Bundle
from .opening import open_bundle as open_bundle
