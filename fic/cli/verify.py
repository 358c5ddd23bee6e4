"""`fic verify`."""

from pathlib import Path

import click

from .options import FOLDER


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option(
    "--public-key",
    type=FOLDER,
    required=True,
    metavar="PEM",
    help="Public key of the signer.",
)
def verify(bundle: Path, public_key: Path) -> None:
    """Verify the signature of a bundle and the digests of its files.

    The exit code is 3 if it has no signature, was signed with another key, or was changed. A pair
    of keys is made by OpenSSL:

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out public.pem
      fic export run --out bundle --sign key.pem
      fic verify bundle --public-key public.pem
    """
    from fic_export.signing import verify_bundle

    verify_bundle(bundle, public_key)
    click.echo(f"{bundle}: is what was signed with the key of {public_key}")
