/** A bundle that answers in the thread where it was opened: what the worker and Node run. */

import { readArrays } from "./arrays.js";
import {
  CARD_FILE,
  checkHasBase,
  checkHead,
  CLASS_WEIGHTS_FILE,
  GOLDEN_FILE,
  openBundle,
} from "./bundle.js";
import { BundleError, EngineError, FicError, reasonOf } from "./errors.js";
import { bundleFiles } from "./files.js";
import { openPicture } from "./pictures.js";
import { centralPart, fittedPart, resizePicture } from "./resizing.js";
import { readScore } from "./scores.js";

const TOLERANCE = 1e-3;
const PIXEL_TOLERANCE = 2;

/**
 * @typedef {object} Engine
 * @property {typeof import("onnxruntime-web/wasm")} ort
 * @property {number} threads
 */

export class LocalClassifier {
  #ort;
  #deployed;
  #served;
  #base;
  #head;
  #score;
  #weights;

  /**
   * Open a bundle.
   *
   * @param source see `bundleFiles`.
   * @param {Engine & {head?: unknown}} options `head`: another bundle whose head is taken.
   * @throws {BundleError | EngineError}
   */
  static async open(source, { ort, threads = 1, head } = {}) {
    const deployed = await openBundle(await bundleFiles(source));
    checkHasBase(deployed);
    let served = deployed;
    if (head !== undefined && head !== null) {
      served = await openBundle(await bundleFiles(head));
      checkHead(served, deployed);
    }
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    const classifier = new LocalClassifier();
    classifier.#ort = ort;
    classifier.#deployed = deployed;
    classifier.#served = served;
    classifier.#score = await readScore(served);
    classifier.#weights = await readClassWeights(served);
    const { base } = deployed.manifest;
    classifier.#base = await openGraph(ort, deployed, base, furtherOutputs(deployed.manifest));
    classifier.#head = await openGraph(ort, served, served.manifest.head, []);
    return classifier;
  }

  get manifest() {
    return this.#served.manifest;
  }

  /** The model card in Markdown; an empty text where the bundle has none. */
  get card() {
    const bytes = this.#served.contents.get(CARD_FILE);
    return bytes ? new TextDecoder().decode(bytes) : "";
  }

  /** Whether `explain` works. */
  get explainable() {
    return Boolean(this.#deployed.manifest.feature_map && this.#weights);
  }

  /** Return what the classifier says of a picture; see `Prediction` in index.d.ts. */
  async predict(picture) {
    const bottleneck = await this.#bottleneck(await this.pixels(picture));
    return this.#answer(bottleneck);
  }

  /** Return the bottleneck of a picture, float32. */
  async extract(picture) {
    return this.#bottleneck(await this.pixels(picture));
  }

  /** Return the pixels that the base gets for a picture: uint8 RGB of the manifest's size. */
  async pixels(source) {
    const picture = await openPicture(source);
    try {
      return resizePicture(picture, this.manifest.preprocessing.geometry);
    } finally {
      picture.close();
    }
  }

  /** Return a small ImageBitmap of a picture, upright; `longest` is of its longer side, in pixels. */
  async thumbnail(source, longest) {
    const picture = await openPicture(source);
    try {
      return picture.thumbnail(longest);
    } finally {
      picture.close();
    }
  }

  /** Return where in a picture a label is seen, by default the most probable one. */
  async explain(source, label) {
    const { feature_map: map, labels, preprocessing } = this.#checkExplainable(label);
    const picture = await openPicture(source);
    let pixels;
    try {
      pixels = resizePicture(picture, preprocessing.geometry);
    } finally {
      picture.close();
    }
    const { base } = this.#deployed.manifest;
    const outputs = await this.#run(this.#base, base.input, pixels);
    const bottleneck = outputs[base.output.name].data;
    const answer = await this.#answer(bottleneck);
    const index = label === undefined ? answer.index : labels.indexOf(label);
    const found = heat(outputs[map.output.name], map, this.#weights, index, labels.length);
    return {
      ...found,
      label: labels[index],
      index,
      probability: answer.probabilities[index],
      ...footprint(picture.height, picture.width, preprocessing.geometry),
    };
  }

  /** Run the bundle's golden pictures; see `SelfTest` in index.d.ts. */
  async selfTest({ decodes = true } = {}) {
    const golden = await readGolden(this.#deployed, true);
    const ofHead = this.#served === this.#deployed ? golden : await readGolden(this.#served, false);
    const { base } = this.#deployed.manifest;
    const size = base.input.shape.slice(1).reduce((product, side) => product * side, 1);
    const bottlenecks = new Float32Array(golden.bottlenecks.data.length);
    const length = bottlenecks.length / golden.images.shape[0];
    for (let i = 0; i < golden.images.shape[0]; i++) {
      const image = golden.images.data.subarray(i * size, (i + 1) * size);
      bottlenecks.set(await this.#bottleneck(image), i * length);
    }
    // Another head has bottlenecks of its own on record.
    const into = ofHead === golden ? bottlenecks : ofHead.bottlenecks.data;
    let probabilities = 0;
    const classes = this.manifest.labels.length;
    const row = (array, i, size) => array.subarray(i * size, (i + 1) * size);
    for (let i = 0; i < ofHead.probabilities.shape[0]; i++) {
      const answer = await this.#answer(row(into, i, length));
      const expected = row(ofHead.probabilities.data, i, classes);
      probabilities = Math.max(probabilities, difference(answer.probabilities, expected));
    }
    const allowed = this.#deployed.manifest.quantization.tolerance ?? {};
    const result = {
      pictures: golden.images.shape[0],
      pixels: decodes ? await this.#pixelDifference(golden) : null,
      bottlenecks: difference(bottlenecks, golden.bottlenecks.data, true),
      probabilities,
      scores: this.#scoreDifference(ofHead),
      bottlenecksTolerance: tolerance(allowed.bottlenecks),
      probabilitiesTolerance: tolerance(allowed.probabilities),
    };
    return { ...result, passed: passes(result) };
  }

  /** How far scores of the recorded bottlenecks are from the recorded ones, in shares of those. */
  #scoreDifference({ ood_scores: recorded, bottlenecks, probabilities }) {
    if (!recorded || !this.#score) return null;
    const shares = Array.from(recorded.data, (expected, i) => {
      const [vector, answer] = [bottlenecks, probabilities].map(({ data }) => {
        const size = data.length / recorded.data.length;
        return data.subarray(i * size, (i + 1) * size);
      });
      return Math.abs(this.#score(vector, answer) - expected) / Math.max(Math.abs(expected), 1);
    });
    return Math.max(...shares);
  }

  async #pixelDifference({ picture, images }) {
    const found = await this.pixels(new Blob([picture.data]));
    return difference(found, images.data.subarray(0, found.length));
  }

  /** Free the graphs; the classifier cannot be used afterwards. */
  async close() {
    const graphs = [this.#base, this.#head];
    this.#base = this.#head = null;
    for (const graph of graphs) await graph?.release();
  }

  async #bottleneck(pixels) {
    const { input, output } = this.#deployed.manifest.base;
    const outputs = await this.#run(this.#base, input, pixels, [output.name]);
    return outputs[output.name].data;
  }

  async #answer(bottleneck) {
    const { head, labels, known: threshold } = this.manifest;
    const outputs = await this.#run(this.#head, head.input, bottleneck);
    const probabilities = outputs[head.output.name].data;
    const index = probabilities.reduce(
      (best, value, i) => (value > probabilities[best] ? i : best),
      0,
    );
    const score = this.#score ? this.#score(bottleneck, probabilities) : null;
    // A score that is not a number is no sign of a known picture.
    const known = score === null ? null : score <= threshold.threshold;
    const probability = probabilities[index];
    return { label: labels[index], index, probability, probabilities, known, score };
  }

  async #run(graph, input, data, names) {
    if (!graph) throw new Error("this classifier is closed; open a new one");
    const tensor = new this.#ort.Tensor(input.dtype, data, [1, ...input.shape.slice(1)]);
    try {
      return await graph.run({ [input.name]: tensor }, ...(names ? [names] : []));
    } catch (error) {
      throw new EngineError(`the bundle cannot be run here (${reasonOf(error)}); reload the page`);
    }
  }

  #checkExplainable(label) {
    if (!this.explainable) {
      throw new BundleError(
        "the bundle was exported without what explanations need; export it again with " +
          "--with-feature-map",
      );
    }
    if (label !== undefined && !this.manifest.labels.includes(label)) {
      throw new BundleError(`the bundle has no label ${JSON.stringify(label)}`);
    }
    return { ...this.manifest, feature_map: this.#deployed.manifest.feature_map };
  }
}

function furtherOutputs(manifest) {
  const output = manifest.feature_map?.output;
  return output && output.name !== manifest.base.output.name ? [output] : [];
}

async function openGraph(ort, bundle, spec, further) {
  const where = `${bundle.place}/${spec.file}`;
  const externalData = bundle.weights[spec.file].map((file) => ({
    path: file,
    data: bundle.contents.get(file),
  }));
  let session;
  try {
    session = await ort.InferenceSession.create(bundle.contents.get(spec.file), {
      logSeverityLevel: 4, // what is wrong is in the error
      ...(externalData.length ? { externalData } : {}),
    });
  } catch (error) {
    if (/wasm|WebAssembly|backend/i.test(reasonOf(error))) {
      throw new EngineError(
        `WebAssembly with SIMD, which the classifier needs, does not work here (${reasonOf(error)}); ` +
          "use a newer browser, or allow WebAssembly for this page",
      );
    }
    throw new BundleError(
      `${where}: cannot be opened (${reasonOf(error)}); export the bundle again`,
    );
  }
  for (const file of [spec.file, ...bundle.weights[spec.file]]) bundle.contents.delete(file);
  checkGraphEnds(session, spec, further, where);
  return session;
}

function checkGraphEnds(session, spec, further, where) {
  const described = (found) => `${found.name} ${found.type ?? found.dtype} (${sizes(found.shape)})`;
  const sizes = (shape) => shape.map((side) => (typeof side === "number" ? side : "n")).join(", ");
  const check = (what, found, expected) => {
    const is = found.map(described).sort().join("; ");
    const shall = expected.map(described).sort().join("; ");
    if (is === shall) return;
    throw new BundleError(
      `${where}: has the ${what} ${is} where the manifest has ${shall}; export the bundle again`,
    );
  };
  check("input", session.inputMetadata, [spec.input]);
  check("output", session.outputMetadata, [spec.output, ...further]);
}

async function readClassWeights({ place, manifest, contents }) {
  if (!contents.has(CLASS_WEIGHTS_FILE)) return null;
  const where = `${place}/${CLASS_WEIGHTS_FILE}`;
  let arrays;
  try {
    arrays = await readArrays(contents.get(CLASS_WEIGHTS_FILE));
  } catch (error) {
    throw new BundleError(`${where}: cannot be read (${reasonOf(error)}); export the bundle again`);
  }
  const [features, labels] = [manifest.head.input.shape.at(-1), manifest.labels.length];
  for (const [name, shape] of [
    ["kernel", [features, labels]],
    ["bias", [labels]],
  ]) {
    const found = arrays[name];
    if (found?.dtype !== "float32" || String(found.shape) !== String(shape)) {
      throw new BundleError(
        `${where}: holds no ${name} of float32 (${shape}), as the head has; export the bundle again`,
      );
    }
  }
  return { kernel: arrays.kernel.data, bias: arrays.bias.data };
}

/** The label's logit at each place of the feature map: (rows, columns), row by row. */
function heat({ data, dims }, { layout }, { kernel, bias }, index, labels) {
  const [rows, columns, channels] =
    layout === "nchw" ? [dims[2], dims[3], dims[1]] : [dims[1], dims[2], dims[3]];
  const places = rows * columns;
  const result = new Float32Array(places).fill(bias[index]);
  for (let place = 0; place < places; place++) {
    let sum = 0;
    for (let k = 0; k < channels; k++) {
      const value = layout === "nchw" ? data[k * places + place] : data[place * channels + k];
      sum += value * kernel[k * labels + index];
    }
    result[place] += sum;
  }
  return { heat: result, rows, columns };
}

/** Which part of a picture the base saw, and which part of its input that filled, in shares. */
function footprint(height, width, geometry) {
  const part = ({ top, left, rows, columns }, h, w) => ({
    top: top / h,
    left: left / w,
    height: rows / h,
    width: columns / w,
  });
  const whole = { top: 0, left: 0, height: 1, width: 1 };
  const { resize } = geometry;
  return {
    seen: resize === "crop" ? part(centralPart(height, width, geometry), height, width) : whole,
    filled:
      resize === "pad"
        ? part(fittedPart(height, width, geometry), geometry.height, geometry.width)
        : whole,
  };
}

async function readGolden({ place, manifest, contents }, pictures) {
  const where = `${place}/${GOLDEN_FILE}`;
  if (!contents.has(GOLDEN_FILE)) {
    throw new BundleError(`${where}: there is nothing to compare with; export the bundle again`);
  }
  const tensors = { bottlenecks: manifest.base.output, probabilities: manifest.head.output };
  if (pictures) tensors.images = manifest.base.input;
  try {
    const arrays = await readArrays(contents.get(GOLDEN_FILE));
    const count = arrays.probabilities?.shape[0];
    for (const [name, { dtype, shape }] of Object.entries(tensors)) {
      const found = arrays[name];
      const fits =
        found?.dtype === dtype && String(found.shape) === String([count, ...shape.slice(1)]);
      if (!count || !fits) throw new Error(`${name} does not fit the manifest`);
    }
    if (pictures && arrays.picture?.dtype !== "uint8") throw new Error("it has no picture");
    const scores = arrays.ood_scores;
    if (scores && (!manifest.known || scores.data.length !== count)) {
      throw new Error("ood_scores does not fit the manifest");
    }
    return arrays;
  } catch (error) {
    if (error instanceof FicError) throw error;
    throw new BundleError(`${where}: cannot be read (${reasonOf(error)}); export the bundle again`);
  }
}

function tolerance(value) {
  return typeof value === "number" && value >= 0 && value <= 1 ? value : TOLERANCE;
}

function passes(found) {
  return (
    (found.pixels ?? 0) <= PIXEL_TOLERANCE &&
    found.bottlenecks <= found.bottlenecksTolerance &&
    found.probabilities <= found.probabilitiesTolerance &&
    (found.scores ?? 0) <= TOLERANCE
  );
}

/** The largest difference of two arrays; `relative` to the largest expected value. */
function difference(found, expected, relative = false) {
  if (found.length !== expected.length) return Infinity;
  let [most, scale] = [0, 0];
  for (let i = 0; i < found.length; i++) {
    const each = Math.abs(found[i] - expected[i]);
    most = each <= most ? most : each; // what is no number is no agreement
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return relative ? most / (scale || 1) : most;
}
