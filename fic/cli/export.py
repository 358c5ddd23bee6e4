"""`fic export`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from .options import FOLDER, run_cache_option
from .terminal import TerminalProgress


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--out",
    type=FOLDER,
    help="Folder of the bundle, or one archive of it if the name ends in .zip.  [default: bundle; "
    "with --head-only: head]",
)
@click.option(
    "--head-only",
    is_flag=True,
    help="Write the head alone, some kilobytes, for devices that have the base already.",
)
@click.option(
    "--base",
    type=FOLDER,
    metavar="BUNDLE",
    help="With --head-only, the bundle on those devices; the head is compared on its base.  "
    "[default: the base that is exported for RUN]",
)
@click.option(
    "--max-difference",
    type=click.FloatRange(min=0),
    default=1e-3,
    help="Largest difference of any probability between Keras and the bundle.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=1.0,
    help="Share of the pictures for which both must name the same class.",
)
@click.option(
    "--assert-accuracy",
    type=click.FloatRange(0, 1),
    help="Share of the pictures whose class the bundle must name.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    default=200,
    help="How many validation pictures to compare on at most, taken from each class in turn.",
)
@click.option(
    "--data",
    type=FOLDER,
    metavar="DIR|CSV",
    help="Pictures to compare on, if the run's have moved.",
)
@click.option(
    "--calibrate/--no-calibrate",
    default=True,
    help="Fit a temperature on the cached validation bottlenecks, and fold it into the head if it "
    "makes the probabilities of held-out pictures better; the labels stay the same.",
)
@click.option(
    "--known/--no-known",
    default=True,
    help="Fit, on the cached bottlenecks, what tells pictures like those of the training from "
    "others: `prediction.known` on the device.",
)
@click.option(
    "--foreign",
    type=FOLDER,
    metavar="DIR",
    help="Pictures that show none of the classes, to choose the best score by.  [default: drawn "
    "textures, noise and gradients]",
)
@click.option(
    "--false-rejection",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    help="Share of pictures like the validation's that may be called unknown.",
)
@click.option(
    "--single-graph",
    is_flag=True,
    help="Write base and head fused in one file, classifier.onnx, as well.",
)
@click.option(
    "--triton",
    type=FOLDER,
    metavar="DIR",
    help="Write a model repository for NVIDIA's Triton Inference Server there as well: base, head, "
    "and an ensemble from picture to probabilities.",
)
@click.option(
    "--triton-name",
    metavar="NAME",
    default="classifier",
    help="Name of the ensemble; its parts are NAME_base and NAME_head.",
)
@click.option(
    "--html",
    type=FOLDER,
    metavar="PAGE",
    help="Write one HTML file as well that classifies pictures in any browser, without a network. "
    "Needs `pip install 'fast-image-classification[html]'`.",
)
@click.option(
    "--web",
    type=FOLDER,
    metavar="DIR",
    help="Write the same page as a folder for a static host as well.",
)
@click.option(
    "--sign",
    type=FOLDER,
    metavar="KEY",
    help="Sign the bundle with this private key, a PEM file of an elliptic curve; `fic verify` "
    "checks it. Needs `pip install 'fast-image-classification[sign]'`.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "fp16"]),
    help="Write the base in fewer bits: int8 takes a quarter of the space and is faster on the "
    "CPU; fp16 takes half, and is meant for GPUs. The head stays float32.",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 1),
    default=0.01,
    help="With --quantize: how much accuracy may be lost against float32, on the same pictures. "
    "With --base, if that is quantized, against Keras; the bounds above do not count there.",
)
@click.option(
    "--calibration-pictures",
    type=click.IntRange(min=1),
    default=128,
    help="With --quantize int8: on how many training pictures the ranges of values are measured.",
)
@click.option(
    "--calibration-data",
    type=FOLDER,
    metavar="DIR|CSV",
    help="With --quantize int8: training pictures, if the run's have moved.",
)
@click.option(
    "--with-feature-map",
    is_flag=True,
    help="Let the bundle show where in a picture it sees a label: `fic-runtime explain`. For "
    "linear heads on averaged features; answers and speed stay the same.",
)
@click.option(
    "--teachable",
    is_flag=True,
    help="Let a device learn more classes from pictures: `Classifier.teach`.",
)
@run_cache_option
def export(
    run: Path,
    out: Path | None,
    head_only: bool,
    base: Path | None,
    max_difference: float,
    min_agreement: float,
    assert_accuracy: float | None,
    pictures: int,
    data: Path | None,
    calibrate: bool,
    known: bool,
    foreign: Path | None,
    false_rejection: float,
    single_graph: bool,
    triton: Path | None,
    triton_name: str,
    html: Path | None,
    web: Path | None,
    sign: Path | None,
    quantize: Literal["int8", "fp16"] | None,
    max_accuracy_drop: float,
    calibration_pictures: int,
    calibration_data: Path | None,
    with_feature_map: bool,
    teachable: bool,
    bottleneck_dir: Path | None,
) -> None:
    """Export a run as a bundle that needs no TensorFlow.

    Base and head become two ONNX graphs. Before anything is written, real pictures go both through
    Keras and through the exported graphs; past a bound nothing is written and the exit code is 3.

    \b
      fic export run --out bundle
      fic export run --out flowers.zip --assert-accuracy 0.85
      fic export run --quantize int8           # refused if it is no faster or loses accuracy
      fic export run --single-graph            # classifier.onnx for programs that load one graph
      fic export run --triton models           # then: tritonserver --model-repository=models
      fic export run --html page.html          # one file that classifies what is dropped on it
      fic export new-run --head-only --base flowers.zip --out head
    """
    from fic_export.bundle.model_card import reliability_lines
    from fic_export.triton import check_triton, export_triton
    from fic_runtime.cli.html import check_pages, write_pages

    from ..exporting import ReliabilityOptions, export_run

    if base is not None and not head_only:
        raise click.UsageError("--base is for --head-only: a whole bundle has its own base.")
    if not known and foreign is not None:
        raise click.UsageError("--foreign is for the score that --no-known turns off.")
    if head_only and (single_graph or triton is not None):
        raise click.UsageError("--head-only goes with neither --single-graph nor --triton.")
    if head_only and quantize is not None:
        raise click.UsageError("--quantize is for the base, and --head-only writes none.")
    check_pages(html, web, head_only=head_only)
    out = out or Path("head" if head_only else "bundle")
    if triton is not None:
        # Before the conversion and the comparison, which take their time.
        check_triton(triton, name=triton_name, bundle=out)
    manifest = export_run(
        run,
        out=out,
        head_only=head_only,
        deployed=base,
        max_difference=max_difference,
        min_agreement=min_agreement,
        min_accuracy=assert_accuracy,
        pictures=pictures,
        data=data,
        with_feature_map=with_feature_map,
        teachable=teachable,
        bottleneck_dir=bottleneck_dir,
        reliability=ReliabilityOptions(
            calibrate=calibrate, known=known, foreign=foreign, false_rejection=false_rejection
        ),
        single_graph=single_graph,
        sign=sign,
        quantize=quantize,
        max_accuracy_drop=max_accuracy_drop,
        calibration_pictures=calibration_pictures,
        calibration_data=calibration_data,
        progress=TerminalProgress(),
    )
    if triton is not None:
        export_triton(out, triton, name=triton_name)
    parity = manifest.parity
    click.echo(
        f"{'head' if head_only else 'bundle'} written to {out}: on {parity['pictures']} pictures "
        "Keras and the bundle agree for "
        f"{parity['top_1_agreement']:.1%}, largest difference {parity['largest_difference']:.1e}"
    )
    if parity["runtime_accuracy"] is not None:
        click.echo(
            f"accuracy on them: Keras {parity['keras_accuracy']:.4f}, bundle "
            f"{parity['runtime_accuracy']:.4f}"
        )
    for line in reliability_lines(manifest):
        click.echo(line)
    if triton is not None:
        click.echo(f"Triton model repository written to {triton}, its ensemble is {triton_name}")
    if manifest.quantization:
        for line in _quantization_lines(manifest.quantization):
            click.echo(line)
    for line in write_pages(out, html, web):
        click.echo(line)
    place = f"{base or 'BUNDLE'} --head {out}" if head_only else str(out)
    if manifest.feature_map is not None and not head_only:
        click.echo(f"where it looks: fic-runtime explain {out} PHOTO --out seen.png")
    click.echo(f"try it: fic-runtime predict {place} PHOTO")


def _quantization_lines(found: Mapping[str, Any]) -> Iterator[str]:
    accuracy = ""
    if found["accuracy"] is not None:
        accuracy = f"accuracy {found['accuracy']:.4f} instead of {found['float32_accuracy']:.4f}, "
    yield (
        f"{found['scheme']} against float32: {accuracy}the same class for "
        f"{found['top_1_agreement']:.1%}, {found['bytes'] / found['float32_bytes']:.2f}x the size, "
        f"{found['speedup']:.2f}x the speed here"
    )
    if found["scheme"] == "fp16" and found["speedup"] <= 1:
        yield (
            "fp16 saves space and not time on this processor; it is meant for GPUs, and "
            "--quantize int8 for processors"
        )
