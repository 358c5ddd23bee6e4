/** The same in Node, on decoded pixels: with onnxruntime-web, or another engine of that interface. */

import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { BundleError, ImageError } from "./errors.js";
import { LocalClassifier } from "./local_classifier.js";
import { Prediction } from "./prediction.js";

export { BundleError, EngineError, FicError, HeadOnlyError, ImageError } from "./errors.js";
export { Prediction };

export class Classifier {
  #local;

  /** See node.d.ts. */
  static async open(source, { ort, head, threads = 1 } = {}) {
    const engine = ort ?? (await webEngine());
    const classifier = new Classifier();
    classifier.#local = await LocalClassifier.open(await contentsOf(source), {
      ort: engine,
      threads,
      head: head === undefined ? undefined : await contentsOf(head),
    });
    return classifier;
  }

  get manifest() {
    return this.#local.manifest;
  }

  get labels() {
    return this.manifest.labels;
  }

  get card() {
    return this.#local.card;
  }

  async predict(picture) {
    return new Prediction(await this.#local.predict(decoded(picture)), this.labels);
  }

  async extract(picture) {
    return this.#local.extract(decoded(picture));
  }

  async pixels(picture) {
    return this.#local.pixels(decoded(picture));
  }

  async explain(picture, label) {
    return this.#local.explain(decoded(picture), label);
  }

  async selfTest() {
    return this.#local.selfTest({ decodes: false });
  }

  async close() {
    await this.#local.close();
  }
}

function decoded(picture) {
  if (picture instanceof Blob) {
    throw new ImageError("Node decodes no pictures; give width, height and data of decoded pixels");
  }
  return picture;
}

async function webEngine() {
  const ort = await import("onnxruntime-web/wasm");
  const file = createRequire(import.meta.url).resolve(
    "onnxruntime-web/ort-wasm-simd-threaded.wasm",
  );
  ort.env.wasm.wasmBinary ??= await readFile(file);
  return ort;
}

async function contentsOf(source) {
  const isPath = typeof source === "string" && !/^https?:/.test(source);
  if (!isPath && !(source instanceof URL && source.protocol === "file:")) return source;
  const place = source instanceof URL ? fileURLToPath(source) : source;
  const found = await stat(place).catch(() => null);
  if (!found)
    throw new BundleError(`${place}: no such file or folder; give what \`fic export\` wrote`);
  if (found.isFile()) return Object.assign(new Blob([await readFile(place)]), { name: place });
  return { place, read: (name) => bytesOf(path.join(place, name)) };
}

async function bytesOf(file) {
  // Not Node's Buffer, whose slice() shares its memory.
  return readFile(file).then(
    (buffer) => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength),
    () => null,
  );
}
