/** The bundle's `manifest.json`, as `docs/reference/bundle-format.md` describes it. */

import { BundleError, reasonOf } from "./errors.js";

export const FORMAT = 1;
export const MANIFEST_FILE = "manifest.json";

const MAX_BYTES = 64 * 2 ** 20;
const GEOMETRY_FIELDS = ["height", "width", "resize", "crop_fraction", "jpeg_margin"];

/**
 * Return the manifest as an object, checked.
 *
 * @throws {BundleError} not JSON, a newer format, or a field that is missing or makes no sense.
 */
export function readManifest(bytes, place) {
  const file = `${place}/${MANIFEST_FILE}`;
  if (bytes.length > MAX_BYTES) {
    throw new BundleError(`${file}: larger than any manifest; export the bundle again`);
  }
  let values;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    values = JSON.parse(text);
  } catch (error) {
    const reason = reasonOf(error);
    throw new BundleError(`${file}: not JSON in UTF-8 (${reason}); export the bundle again`);
  }
  try {
    return manifestOf(mapping(values, "the manifest"));
  } catch (error) {
    if (error instanceof BundleError) throw new BundleError(`${file}: ${error.message}`);
    throw new BundleError(`${file}: ${reasonOf(error)}; export the bundle again`);
  }
}

/** Return the files of the base with their digests: its graph, and weights that lie beside it. */
export function baseFiles(manifest) {
  const { file } = manifest.base;
  const own = ([name]) =>
    name === file || name.startsWith(`${file}.`) || name.startsWith(`${file}_`);
  return Object.fromEntries(Object.entries(manifest.files).filter(own));
}

/** Return the files that are in the bundle, with their digests. */
export function ownFiles(manifest) {
  if (!manifest.head_only) return manifest.files;
  const others = baseFiles(manifest);
  const own = Object.entries(manifest.files).filter(([name]) => !(name in others));
  return Object.fromEntries(own);
}

function manifestOf(values) {
  const format = field(values, "format");
  if (!Number.isInteger(format) || format < 1)
    throw new Error(`format ${show(format)} is no format`);
  if (format > FORMAT) {
    throw new BundleError(
      `format ${format} is newer than this runtime reads (${FORMAT}); upgrade fic-runtime-web`,
    );
  }
  const manifest = {
    ...values,
    labels: list(field(values, "labels")).map(text),
    preprocessing: preprocessing(mapping(field(values, "preprocessing"))),
    base: graphSpec(mapping(field(values, "base"))),
    head: graphSpec(mapping(field(values, "head"))),
    files: files(mapping(field(values, "files"))),
    head_only: flag(values.head_only ?? false),
    feature_map: featureMap(values.feature_map ?? null),
    known: known(values.known ?? null),
  };
  for (const name of ["origin", "parity", "metrics", "versions", "quantization", "calibration"]) {
    manifest[name] = mapping(values[name] ?? {});
  }
  checkConsistency(manifest);
  return manifest;
}

function preprocessing(values) {
  const geometry = mapping(field(values, "geometry"));
  const unknown = Object.keys(geometry).filter((name) => !GEOMETRY_FIELDS.includes(name));
  if (unknown.length) {
    throw new BundleError(
      `preprocessing: the geometry's ${unknown.join(", ")} is unknown to this runtime; ` +
        "upgrade fic-runtime-web",
    );
  }
  const fraction = number(field(geometry, "crop_fraction"));
  if (!(fraction > 0 && fraction <= 1))
    throw new Error(`crop_fraction ${fraction} is not in (0, 1]`);
  const margin = number(field(geometry, "jpeg_margin"));
  if (margin !== 0 && margin < 1)
    throw new Error(`jpeg_margin ${margin} is neither 0 nor at least 1`);
  const pixels = mapping(field(values, "pixels"));
  for (const name of ["scale", "offset"]) {
    if (list(field(pixels, name)).map(number).length !== 3)
      throw new Error(`${name} is three numbers`);
  }
  return {
    geometry: {
      height: size(field(geometry, "height")),
      width: size(field(geometry, "width")),
      resize: word(field(geometry, "resize"), "resize", ["stretch", "crop", "pad"]),
      crop_fraction: fraction,
      jpeg_margin: margin,
    },
    pixels: {
      ...pixels,
      channel_order: word(field(pixels, "channel_order"), "channel order", ["rgb", "bgr"]),
    },
  };
}

function graphSpec(values) {
  return {
    file: fileName(field(values, "file")),
    input: tensor(mapping(field(values, "input"))),
    output: tensor(mapping(field(values, "output"))),
  };
}

function tensor(values) {
  const shape = list(field(values, "shape"));
  if (shape[0] !== null || !shape.slice(1).every((side) => Number.isInteger(side) && side > 0)) {
    throw new Error(`the shape ${show(shape)} is no batch of items`);
  }
  return { name: text(field(values, "name")), dtype: text(field(values, "dtype")), shape };
}

function known(values) {
  if (values === null) return null;
  const file = field(mapping(values), "file");
  return {
    method: text(field(values, "method")),
    threshold: number(field(values, "threshold")),
    file: file === null ? null : fileName(file),
    false_rejection: number(field(values, "false_rejection")),
    figures: mapping(values.figures ?? {}),
  };
}

function featureMap(values) {
  if (values === null) return null;
  const layout = field(mapping(values), "layout");
  if (layout !== "nchw" && layout !== "nhwc") {
    throw new Error(`the layout ${show(layout)} is neither nchw nor nhwc`);
  }
  return { ...values, output: tensor(mapping(field(values, "output"))), layout };
}

function files(values) {
  for (const [name, digest] of Object.entries(values)) {
    fileName(name);
    text(digest);
  }
  return values;
}

function checkConsistency(manifest) {
  const { base, head, labels } = manifest;
  const { height, width } = manifest.preprocessing.geometry;
  const bottleneck = base.output.shape;
  for (const [what, found, dtype, shape] of [
    ["the base's input", base.input, "uint8", [null, height, width, 3]],
    ["the base's output", base.output, "float32", bottleneck],
    ["the head's input", head.input, "float32", bottleneck],
    ["the head's output", head.output, "float32", [null, labels.length]],
  ]) {
    if (found.dtype !== dtype || show(found.shape) !== show(shape)) {
      throw new Error(
        `${what} is ${found.dtype} ${show(found.shape)} where preprocessing, bottleneck and ` +
          `labels ask for ${dtype} ${show(shape)}`,
      );
    }
  }
  if (manifest.feature_map) checkFeatureMap(manifest.feature_map, base.output);
  const repeated = labels.find((label, index) => labels.indexOf(label) !== index);
  if (repeated !== undefined) throw new Error(`the label ${show(repeated)} stands there twice`);
  for (const { file } of [base, head]) {
    if (!Object.hasOwn(manifest.files, file)) throw new Error(`${file} has no checksum`);
  }
  if (head.file in baseFiles(manifest)) {
    throw new Error(`${head.file} cannot be a file of the base as well`);
  }
}

function checkFeatureMap({ output, layout }, bottleneck) {
  const { shape } = output;
  const channels = shape[layout === "nchw" ? 1 : shape.length - 1];
  let fits = output.dtype === "float32" && shape.length === 4;
  fits &&= channels === bottleneck.shape.at(-1);
  if (output.name === bottleneck.name) {
    fits &&= show(output) === show(bottleneck) && layout === "nhwc";
  } else fits &&= bottleneck.shape.length === 2;
  if (!fits) {
    throw new Error(
      `the feature map ${show(shape)} does not go with the bottleneck ${show(bottleneck.shape)}`,
    );
  }
}

function field(values, name) {
  if (!Object.hasOwn(values, name)) throw new Error(`the field '${name}' is missing`);
  return values[name];
}

function fileName(name) {
  // A plain name in the bundle's own folder: no separator, drive or parent can leave it.
  if (typeof name !== "string" || ["", ".", ".."].includes(name) || /[/\\:\0]/.test(name)) {
    throw new Error(`${show(name)} is not the name of a file inside the bundle`);
  }
  return name;
}

function mapping(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new Error(`${show(value)} should be an object`);
  }
  return value;
}

function list(value) {
  if (!Array.isArray(value)) throw new Error(`${show(value)} should be a list`);
  return value;
}

function text(value) {
  if (typeof value !== "string") throw new Error(`${show(value)} should be text`);
  return value;
}

function flag(value) {
  if (typeof value !== "boolean") throw new Error(`${show(value)} should be true or false`);
  return value;
}

function number(value) {
  if (!Number.isFinite(value)) throw new Error(`${show(value)} should be a finite number`);
  return value;
}

function size(value) {
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${show(value)} is no number of pixels`);
  return value;
}

function word(value, what, words) {
  if (!words.includes(value)) {
    throw new BundleError(
      `preprocessing: ${what} ${show(value)} is unknown to this runtime (${words.join(", ")}); ` +
        "upgrade fic-runtime-web",
    );
  }
  return value;
}

function show(value) {
  const shown = JSON.stringify(value) ?? String(value);
  return shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
}
