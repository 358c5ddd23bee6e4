"""Pictures for a generator of requests, which cannot know what the server takes for one.

SCHEMATHESIS_HOOKS=tests.runtime.server.schemathesis_hooks schemathesis run URL/openapi.json
"""

import base64
from pathlib import Path

import schemathesis
from hypothesis import strategies
from schemathesis.transport.serialization import Binary

BUNDLE = Path(__file__).parents[2] / "data/bundle-v1"
FILES = [file.read_bytes() for file in sorted(BUNDLE.glob("*.png"))]

schemathesis.openapi.format("picture", strategies.sampled_from([Binary(data) for data in FILES]))
schemathesis.openapi.format(
    "picture-base64",
    strategies.sampled_from([base64.b64encode(data).decode() for data in FILES]),
)
