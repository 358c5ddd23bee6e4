/** Whether a picture is like those of the training: the scores of a bundle; higher is stranger. */

import { readArrays } from "./arrays.js";
import { BundleError, reasonOf } from "./errors.js";

const TINY = 1.1754943508222875e-38; // the smallest normal float32

/**
 * Each method: its arrays with their shapes, where equal letters stand for equal sizes, and a
 * function from them to the score of one picture, given its pooled bottleneck and probabilities.
 */
const METHODS = {
  maximum_probability: {
    shapes: {},
    score: () => (_, probabilities) => 1 - Math.max(...probabilities),
  },
  energy: {
    shapes: { weights: ["features", "classes"], bias: ["classes"], scale: [] },
    score: energy,
  },
  mahalanobis: {
    shapes: {
      centre: ["features"],
      means: ["classes", "features"],
      directions: ["features", "kept"],
      weights: ["kept"],
      rest: [],
      scale: [],
    },
    score: (arrays) => {
      const distance = mahalanobis(arrays);
      const [scale] = arrays.scale.data;
      return (features) => distance(features, scale);
    },
  },
  nearest_neighbour: {
    shapes: { neighbours: ["pictures", "features"] },
    score: nearestNeighbour,
  },
};
METHODS.normalised_mahalanobis = {
  shapes: METHODS.mahalanobis.shapes,
  score: (arrays) => {
    const distance = mahalanobis(arrays);
    const [scale] = arrays.scale.data;
    return (features) => distance(features, scale / lengthOf(features));
  },
};

/**
 * Return the function that scores one picture: `(bottleneck, probabilities) => number`; or null
 * where the bundle has no score.
 *
 * @throws {BundleError} the method is newer than this runtime, or its numbers cannot be used.
 */
export async function readScore({ place, manifest, contents }) {
  const { known, base, files } = manifest;
  if (!known) return null;
  const method = Object.hasOwn(METHODS, known.method) ? METHODS[known.method] : null;
  if (!method) {
    throw new BundleError(
      `${place}: tells known pictures by '${known.method}', which this runtime does not know; ` +
        "upgrade fic-runtime-web",
    );
  }
  const where = `${place}/${known.file ?? "manifest.json"}`;
  if (known.file !== null && !Object.hasOwn(files, known.file)) {
    throw new BundleError(`${where}: has no checksum in the manifest; export the bundle again`);
  }
  try {
    const arrays = known.file === null ? {} : await readArrays(contents.get(known.file));
    checkArrays(arrays, method.shapes, base.output.shape.at(-1));
    const score = method.score(arrays);
    return (bottleneck, probabilities) =>
      score(pooled(bottleneck, base.output.shape), probabilities);
  } catch (error) {
    throw new BundleError(
      `${where}: does not hold the numbers of ${known.method} (${reasonOf(error)}); export the ` +
        "bundle again",
    );
  }
}

function checkArrays(arrays, shapes, features) {
  const sizes = { features };
  const names = Object.keys(arrays).sort();
  if (names.join() !== Object.keys(shapes).sort().join()) {
    throw new Error(`it holds ${names.join(", ") || "nothing"}`);
  }
  for (const [name, letters] of Object.entries(shapes)) {
    const { dtype, shape, data } = arrays[name];
    if (dtype !== "float16" && dtype !== "float32") throw new Error(`${name} is ${dtype}`);
    if (!data.length || !data.every(Number.isFinite)) {
      throw new Error(`${name} is empty or holds what is no number`);
    }
    const expected = letters.map((letter, axis) => (sizes[letter] ??= shape[axis]));
    if (shape.length !== letters.length || expected.some((side, axis) => side !== shape[axis])) {
      throw new Error(`the shape (${shape}) of ${name} should be (${expected})`);
    }
  }
}

function energy({ weights, bias, scale }) {
  const classes = bias.data.length;
  return (features) => {
    const logits = Float64Array.from(bias.data);
    for (let i = 0; i < features.length; i++) {
      const value = features[i] * scale.data[0];
      for (let c = 0; c < classes; c++) logits[c] += value * weights.data[i * classes + c];
    }
    const largest = Math.max(...logits);
    return -largest - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  };
}

function mahalanobis({ centre, means, directions, weights, rest }) {
  const [features, kept] = directions.shape;
  const [classes] = means.shape;
  // Row by row of `directions`, so that the largest array is read in order.
  const along = (vector, start) => {
    const result = new Float64Array(kept);
    for (let i = 0; i < features; i++) {
      const value = vector[start + i];
      for (let k = 0; k < kept; k++) result[k] += value * directions.data[i * kept + k];
    }
    return result;
  };
  const meansAlong = Array.from({ length: classes }, (_, c) => along(means.data, c * features));
  return (vector, scale) => {
    const offset = Float64Array.from(vector, (value, i) => value * scale - centre.data[i]);
    const offsetAlong = along(offset, 0);
    let least = Infinity;
    for (let c = 0; c < classes; c++) {
      let distance = 0;
      for (let i = 0; i < features; i++) {
        distance += (offset[i] - means.data[c * features + i]) ** 2;
      }
      distance *= rest.data[0];
      for (let k = 0; k < kept; k++) {
        distance += weights.data[k] * (offsetAlong[k] - meansAlong[c][k]) ** 2;
      }
      // What is no number stays, and so no picture is known by it.
      least = distance < least || Number.isNaN(distance) ? distance : least;
    }
    return least;
  };
}

function nearestNeighbour({ neighbours }) {
  const [pictures, features] = neighbours.shape;
  return (vector) => {
    const length = lengthOf(vector);
    let largest = -Infinity;
    for (let n = 0; n < pictures; n++) {
      let cosine = 0;
      for (let i = 0; i < features; i++) cosine += vector[i] * neighbours.data[n * features + i];
      largest = Math.max(largest, cosine / length);
    }
    return Math.max(1 - largest, 0);
  };
}

function lengthOf(vector) {
  return Math.max(Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0)), TINY);
}

/** Return the mean over the places of a map; a vector stays. */
function pooled(bottleneck, shape) {
  const features = shape.at(-1);
  if (bottleneck.length === features) return bottleneck;
  const sums = new Float64Array(features);
  for (let i = 0; i < bottleneck.length; i++) sums[i % features] += bottleneck[i];
  return sums.map((sum) => sum / (bottleneck.length / features));
}
