/** The worker in which bundles are opened and run, so that a page never freezes. */

import * as ort from "onnxruntime-web/wasm";

import { toMessage } from "./errors.js";
import { LocalClassifier } from "./local_classifier.js";

let classifier = null;
let last = Promise.resolve();

const REQUESTS = {
  async open({ source, head, threads, wasm }) {
    if (wasm) Object.assign(ort.env.wasm, engineFiles(wasm));
    classifier = await LocalClassifier.open(source, { ort, threads, head });
    const { manifest, card, explainable } = classifier;
    return { manifest, card, explainable };
  },
  predict: ({ picture }) => classifier.predict(picture),
  extract: ({ picture }) => classifier.extract(picture),
  pixels: ({ picture }) => classifier.pixels(picture),
  thumbnail: ({ picture, longest }) => classifier.thumbnail(picture, longest),
  explain: ({ picture, label }) => classifier.explain(picture, label),
  selfTest: () => classifier.selfTest(),
};

function engineFiles(wasm) {
  return typeof wasm === "string" ? { wasmPaths: { wasm } } : { wasmBinary: wasm };
}

self.onmessage = ({ data: { id, what, ...request } }) => {
  // One after the other: a graph runs one picture at a time, and memory holds one.
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await REQUESTS[what](request) });
    } catch (error) {
      self.postMessage({ id, error: toMessage(error) });
    }
  });
};
