"""A bundle over HTTP: an ASGI application, and the server of `fic-runtime serve` around it.

Needs the extra `fic-runtime[serve]`; the rest of the package never imports it.
"""

from .app import create_app as create_app
from .limits import Limits as Limits
