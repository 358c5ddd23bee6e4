"""`fic export`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from fic_export.options import Purpose, Scheme

from ..options import ExportOptions, OptionsError, ReliabilityOptions
from .option_values import SectionedCommand, flags, from_options
from .options import FOLDER, LOCATION, Number, run_cache_option, verbose_option
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from fic_runtime.bundle.manifest import Manifest


_HEADINGS = {
    "Bundle": ("out", "head_only", "base", "with_feature_map", "teachable", "sign"),
    "Comparison": (
        "max_difference",
        "min_agreement",
        "assert_accuracy",
        "pictures",
        "data",
        "verbose",
    ),
    "Probabilities": ("calibrate", "known", "foreign", "false_rejection"),
    "Quantization": (
        *("quantize", "for", "max_accuracy_drop", "calibration_pictures", "calibration_data"),
    ),
    "Other formats": (
        "single_graph",
        "with_bottleneck",
        "float_input",
        "triton",
        "triton_name",
        "html",
        "web",
    ),
}


@click.command(cls=SectionedCommand, headings=_HEADINGS)
@click.argument("run", type=FOLDER)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR|FILE.zip",
    help="Folder of the bundle, or one archive of it if the name ends in .zip.  [default: bundle; "
    "with --head-only: head]",
)
@click.option(
    "--head-only",
    is_flag=True,
    default=ExportOptions.head_only,
    help="Write the head alone, some kilobytes, for devices that have the base already.",
)
@click.option(
    "--base",
    type=FOLDER,
    metavar="BUNDLE",
    default=ExportOptions.deployed,
    help="With --head-only, the bundle on those devices; the head is compared on its base.  "
    "[default: the base that is exported for RUN]",
)
@click.option(
    "--max-difference",
    type=Number(min=0),
    default=ExportOptions.max_difference,
    help="Largest difference of any probability between Keras and the bundle.",
)
@click.option(
    "--min-agreement",
    type=Number(0, 1),
    default=ExportOptions.min_agreement,
    help="Share of the pictures for which both must name the same class.",
)
@click.option(
    "--assert-accuracy",
    type=Number(0, 1),
    default=ExportOptions.min_accuracy,
    help="Share of the pictures whose class the bundle must name.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    default=ExportOptions.max_pictures,
    help="Largest number of validation pictures to compare on, taken from each class in turn.",
)
@click.option(
    "--data",
    type=LOCATION,
    metavar="DIR|CSV|URL",
    default=ExportOptions.data,
    help="Pictures to compare on, if those of the run have moved.",
)
@click.option(
    "--calibrate/--no-calibrate",
    default=ReliabilityOptions.calibrate,
    help="Temperature fitted on the cached validation bottlenecks, folded into the head if it "
    "makes the probabilities of held-out pictures better; the labels stay the same.",
)
@click.option(
    "--known/--no-known",
    default=ReliabilityOptions.known,
    help="Score fitted on the cached bottlenecks that tells pictures like those of the training "
    "from others: `prediction.known` on the device.",
)
@click.option(
    "--foreign",
    type=FOLDER,
    metavar="DIR",
    default=ReliabilityOptions.foreign,
    help="Pictures that show none of the classes, to choose the best score by.  [default: drawn "
    "textures, noise and gradients]",
)
@click.option(
    "--false-rejection",
    type=Number(0, 1, min_open=True, max_open=True),
    default=ReliabilityOptions.false_rejection,
    help="Share of pictures like the validation's that may be called unknown.",
)
@click.option(
    "--single-graph",
    is_flag=True,
    default=ExportOptions.single_graph,
    help="Also write base and head fused in one file, classifier.onnx, which gives the score for "
    "unknown pictures, too.",
)
@click.option(
    "--with-bottleneck",
    is_flag=True,
    default=ExportOptions.with_bottleneck,
    help="With --single-graph or --triton, the bottleneck as one more output of that file or "
    "of the ensemble.",
)
@click.option(
    "--float-input",
    is_flag=True,
    default=ExportOptions.float_input,
    help="With --single-graph, float32 pixels from 0 to 255 as the input of that file, for engines "
    "that know no uint8 (ncnn, MNN).",
)
@click.option(
    "--triton",
    type=FOLDER,
    metavar="DIR",
    default=ExportOptions.triton,
    help="Folder for a model repository of NVIDIA's Triton Inference Server: base, head, the score "
    "for unknown pictures, and an ensemble from picture to probabilities and score.",
)
@click.option(
    "--triton-name",
    metavar="NAME",
    default=ExportOptions.triton_name,
    help="Name of the ensemble; its parts are NAME_base, NAME_head and NAME_ood.",
)
@click.option(
    "--html",
    type=FOLDER,
    metavar="PAGE",
    help="Also write one HTML file that classifies pictures in any browser, without a network. "
    "Needs `pip install 'fast-image-classification[html]'`.",
)
@click.option(
    "--web",
    type=FOLDER,
    metavar="DIR",
    help="Also write such a page as a folder for a static host.",
)
@click.option(
    "--sign",
    type=FOLDER,
    metavar="KEY",
    default=ExportOptions.sign,
    help="Private key to sign the bundle with, a PEM file of an elliptic curve; `fic verify` "
    "checks it. Needs `pip install 'fast-image-classification[sign]'`.",
)
@click.option(
    "--quantize",
    type=click.Choice(get_args(Scheme)),
    default=ExportOptions.quantize,
    help="Write the base in fewer bits: int8 takes a quarter of the space and is faster on the "
    "CPU; fp16 takes half, and is meant for GPUs. The head stays float32.",
)
@click.option(
    "--for",
    type=click.Choice(get_args(Purpose)),
    default=ExportOptions.quantize_for,
    help="With --quantize int8, speed refuses a base that is not faster on this machine; size "
    "accepts it, for other devices.",
)
@click.option(
    "--max-accuracy-drop",
    type=Number(0, 1),
    default=ExportOptions.max_accuracy_drop,
    help="With --quantize, accuracy that may be lost against float32, on the same pictures; with a "
    "--base that is quantized, against Keras, instead of --max-difference and --min-agreement.",
)
@click.option(
    "--calibration-pictures",
    type=click.IntRange(min=1),
    default=ExportOptions.max_calibration_pictures,
    help="With --quantize int8, largest number of training pictures on which the ranges of values "
    "are measured.",
)
@click.option(
    "--calibration-data",
    type=LOCATION,
    metavar="DIR|CSV|URL",
    default=ExportOptions.calibration_data,
    help="With --quantize int8, training pictures, if those of the run have moved.",
)
@click.option(
    "--with-feature-map",
    is_flag=True,
    default=ExportOptions.with_feature_map,
    help="Let the bundle explain its answers with heat maps: `fic-runtime explain`. For linear "
    "heads on averaged features; answers and speed stay the same.",
)
@click.option(
    "--teachable",
    is_flag=True,
    default=ExportOptions.teachable,
    help="Let a device learn more classes from pictures: `fic-runtime teach`.",
)
@verbose_option
@run_cache_option
def export(run: Path, out: Path | None, html: Path | None, web: Path | None, **values: Any) -> None:
    """Export a run as a bundle that needs no TensorFlow.

    Base and head become two ONNX graphs. Before anything is written, real pictures go both through
    Keras and through the exported graphs; past a bound nothing is written and the exit code is 3.
    With a base of an ONNX file, that file takes the place of the base in Keras.

    \b
      fic export run --out bundle
      fic export run --out flowers.zip --assert-accuracy 0.85
      fic export run --quantize int8           # refused if it is not faster or loses accuracy
      fic export run --single-graph            # classifier.onnx for programs that load one graph
      fic export run --triton models           # then: tritonserver --model-repository=models
      fic export run --html page.html          # one file that classifies what is dropped on it
      fic export new-run --head-only --base flowers.zip --out head
    """
    from fic_runtime.cli.html import check_pages, write_pages

    from ..exporting import export_run
    from ..exporting.whereabouts import check_apart_from_pictures
    from ..runs import as_run

    options = _options(values)
    check_pages(html, web, head_only=options.head_only)
    check_apart_from_pictures(as_run(run), [page for page in (html, web) if page is not None])
    out = out or Path("head" if options.head_only else "bundle")
    manifest = export_run(run, out=out, options=options, progress=TerminalProgress())
    for line in (*_lines(manifest, out, options), *write_pages(out, html, web)):
        click.echo(line)


def _options(values: Mapping[str, Any]) -> ExportOptions:
    if not values["known"] and values["foreign"] is not None:
        raise click.UsageError("--foreign is for the score that --no-known turns off.")
    reliability = from_options(ReliabilityOptions, values)
    try:
        return from_options(ExportOptions, {**values, "reliability": reliability})
    except OptionsError as error:
        raise click.UsageError(f"{error.text.format_map(flags(ExportOptions))}.") from None


def _lines(manifest: "Manifest", out: Path, options: ExportOptions) -> Iterator[str]:
    """Yield what was written, how good it is, and what to try next."""
    from fic_export.bundle.model_card import reliability_lines

    parity = manifest.parity
    yield (
        f"{'head' if options.head_only else 'bundle'} written to {out}: on {parity['pictures']} "
        f"pictures {parity['reference']} and the bundle agree for "
        f"{parity['top_1_agreement']:.1%}, largest difference {parity['largest_difference']:.1e}"
    )
    if parity["runtime_accuracy"] is not None:
        yield (
            f"accuracy on them: {parity['reference']} {parity['keras_accuracy']:.4f}, bundle "
            f"{parity['runtime_accuracy']:.4f}"
        )
    yield from reliability_lines(manifest)
    if options.triton is not None:
        yield (
            f"Triton model repository written to {options.triton}, its ensemble is "
            f"{options.triton_name}"
        )
    if manifest.quantization:
        yield from _quantization_lines(manifest.quantization)
    if manifest.feature_map is not None and not options.head_only:
        yield f"where it looks: fic-runtime explain {out} PHOTO --out seen.png"
    whole = f"{options.deployed or 'BUNDLE'} --head {out}" if options.head_only else str(out)
    yield f"try it: fic-runtime predict {whole} PHOTO"


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
