/** A bundle whose manifest was read and whose files were checked. */

import { sha256 } from "./digests.js";
import { BundleError, HeadOnlyError, reasonOf } from "./errors.js";
import { graphContents, KNOWN_TYPES } from "./graph_contents.js";
import { baseFiles, MANIFEST_FILE, ownFiles, readManifest } from "./manifest.js";

export const GOLDEN_FILE = "golden.npz";
export const CARD_FILE = "README.md";
export const CLASS_WEIGHTS_FILE = "class_weights.npz";

/**
 * Read the manifest and check every file that it names.
 *
 * @param files see `bundleFiles`.
 * @returns `place`, `manifest`, `contents` (of the files that are needed later, by name) and
 *   `weights` (of each graph, the files beside it that hold weights).
 * @throws {BundleError} there is no bundle, or a file is missing or not what was exported.
 */
export async function openBundle(files) {
  const { place } = files;
  const bytes = await files.read(MANIFEST_FILE);
  if (bytes === null) {
    throw new BundleError(`${place}: no ${MANIFEST_FILE} there; give what \`fic export\` wrote`);
  }
  const manifest = readManifest(bytes, place);
  const needed = new Set([
    ...Object.keys(baseFiles(manifest)),
    ...[manifest.head.file, manifest.known?.file, GOLDEN_FILE, CARD_FILE, CLASS_WEIGHTS_FILE],
  ]);
  const contents = new Map();
  await Promise.all(
    Object.entries(ownFiles(manifest)).map(async ([name, digest]) => {
      const content = await checked(files, name, digest);
      const held = needed.has(name) || name.startsWith(`${manifest.head.file}.`);
      if (held) contents.set(name, content);
    }),
  );
  const weights = {};
  const specs = manifest.head_only ? [manifest.head] : [manifest.base, manifest.head];
  for (const { file } of specs) weights[file] = checkGraph(files, file, contents);
  return { place, manifest, contents, weights };
}

async function checked(files, name, digest) {
  const content = await files.read(name);
  if (content === null) {
    throw new BundleError(
      `${files.place}/${name}: cannot be read (no such file); copy the bundle again or export it ` +
        "again",
    );
  }
  if ((await sha256(content)) !== digest) {
    throw new BundleError(
      `${files.place}/${name}: does not match its checksum in the manifest; copy the bundle again ` +
        "or export it again",
    );
  }
  return content;
}

/** Refuse a graph that would run code, or need files, that are not of the bundle. */
function checkGraph(files, file, contents) {
  const where = `${files.place}/${file}`;
  let found;
  try {
    found = graphContents(contents.get(file));
  } catch (error) {
    throw new BundleError(
      `${where}: is no ONNX graph (${reasonOf(error)}); export the bundle again`,
    );
  }
  if (found.custom.size) {
    throw new BundleError(
      `${where}: uses custom operators (${[...found.custom].sort().slice(0, 5).join(", ")}), which ` +
        "this runtime never loads; export it from layers that ONNX has operators for",
    );
  }
  const unknown = [...found.types].find((type) => !KNOWN_TYPES.has(type));
  if (unknown !== undefined) {
    throw new BundleError(
      `${where}: holds constants of element type ${unknown}, which this runtime does not know; ` +
        "upgrade fic-runtime-web or export the bundle again",
    );
  }
  for (const location of found.locations) {
    if (!contents.has(location)) {
      throw new BundleError(
        `${where}: has weights in ${JSON.stringify(location)}, which is no file of the bundle; ` +
          "export it again",
      );
    }
    if (files.archived) {
      throw new BundleError(
        `${where}: has its weights in a file beside it, which is not done in an archive; unpack ` +
          "the archive and give the folder",
      );
    }
  }
  return [...found.locations].sort();
}

/**
 * Make sure that the head of `bundle` was made for the very base of `deployed`.
 *
 * @throws {BundleError} the bases differ, or what goes into them does.
 */
export function checkHead(bundle, deployed) {
  const [head, base] = [bundle.manifest, deployed.manifest];
  if (!same(baseFiles(head), baseFiles(base))) {
    throw new BundleError(
      `${bundle.place}: is a head for the base ${shown(head)}, and ${deployed.place} has the base ` +
        `${shown(base)}; use the bundle that the head was made for, or export the head again`,
    );
  }
  if (!same(head.base, base.base) || !same(head.preprocessing, base.preprocessing)) {
    throw new BundleError(
      `${bundle.place}: its base or preprocessing is not that of ${deployed.place}, although the ` +
        "files are the same; export the head again",
    );
  }
}

/**
 * Make sure that a bundle can be served by itself.
 *
 * @throws {HeadOnlyError} it is a head only.
 */
export function checkHasBase(bundle) {
  if (!bundle.manifest.head_only) return;
  throw new HeadOnlyError(
    `${bundle.place}: is a head without its base ${shown(bundle.manifest)}; open the bundle that ` +
      "has the base, and give this one as its head",
  );
}

function shown(manifest) {
  const digests = Object.entries(baseFiles(manifest)).sort();
  return digests.map(([, digest]) => digest.slice(0, 12)).join("+");
}

function same(one, other) {
  return JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.keys(value)
    .sort()
    .map((key) => [key, sorted(value[key])]);
}
