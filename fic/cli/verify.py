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
    help="The public key of who signed the bundle.",
)
def verify(bundle: Path, public_key: Path) -> None:
    """Check that a bundle is what was signed.

    The exit code is 3 if it has no signature, was signed with another key, or was changed, and each
    file is checked against its digest, too. A pair of keys is made by OpenSSL:

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out public.pem
      fic export run --out bundle --sign key.pem
      fic verify bundle --public-key public.pem
    """
    from fic_export.signing import verify_bundle

    verify_bundle(bundle, public_key)
    click.echo(f"{bundle}: is what was signed with the key of {public_key}")
