/** Classify pictures in a web page, with the answers of fic-runtime. */

import { EngineError, fromMessage, ImageError, reasonOf } from "./errors.js";
import { Prediction } from "./prediction.js";

export { BundleError, EngineError, FicError, HeadOnlyError, ImageError } from "./errors.js";
export { drawHeat } from "./heat.js";
export { Prediction };

export class Classifier {
  #worker;
  #waiting = new Map();
  #last = 0;

  /** See index.d.ts. */
  static async open(source, { head, threads = 1, wasm, worker } = {}) {
    if (typeof WebAssembly !== "object") {
      throw new EngineError(
        "this browser has no WebAssembly, which the classifier needs; use a newer one, or allow " +
          "WebAssembly for this page",
      );
    }
    const classifier = new Classifier();
    classifier.#worker = startWorker(worker);
    classifier.#listen();
    try {
      const opened = await classifier.#ask("open", {
        source: absolute(source),
        head: absolute(head),
        threads,
        wasm: absolute(wasm),
      });
      Object.assign(classifier, opened);
    } catch (error) {
      classifier.close();
      throw error;
    }
    return Object.freeze(classifier);
  }

  get labels() {
    return this.manifest.labels;
  }

  async predict(picture) {
    return new Prediction(await this.#askWith(picture, "predict"), this.labels);
  }

  async extract(picture) {
    return this.#askWith(picture, "extract");
  }

  async pixels(picture) {
    return this.#askWith(picture, "pixels");
  }

  async thumbnail(picture, longest = 640) {
    return this.#askWith(picture, "thumbnail", { longest });
  }

  async explain(picture, label) {
    return this.#askWith(picture, "explain", { label });
  }

  async selfTest() {
    return this.#ask("selfTest");
  }

  close() {
    this.#worker?.terminate();
    this.#fail(new Error("the classifier was closed"));
  }

  async #askWith(source, what, more = {}) {
    const [picture, transfer] = await portable(source);
    return this.#ask(what, { picture, ...more }, transfer);
  }

  #ask(what, request = {}, transfer = []) {
    if (!this.#waiting) {
      return Promise.reject(new Error("this classifier is closed; open a new one"));
    }
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, what, ...request }, transfer);
    });
  }

  #listen() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const asked = this.#waiting?.get(id);
      if (!asked) return;
      this.#waiting.delete(id);
      if (error) asked.reject(fromMessage(error));
      else asked.resolve(result);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const reason = event.message || "it could not be loaded";
      this.#fail(new EngineError(`the classifier's worker stopped (${reason}); reload the page`));
      this.#worker.terminate();
    };
  }

  #fail(error) {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.forEach(({ reject }) => reject(error));
  }
}

function startWorker(worker) {
  try {
    if (worker instanceof Worker) return worker;
    if (worker) return new Worker(worker, { type: "module" });
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  } catch (error) {
    throw new EngineError(
      `the classifier's worker cannot be started (${reasonOf(error)}); serve its file from the ` +
        "same origin as the page",
    );
  }
}

function absolute(source) {
  if (typeof source !== "string" && !(source instanceof URL)) return source;
  return new URL(source, document.baseURI).href;
}

/** Return a picture as it can go to the worker, and what of it is handed over for good. */
async function portable(source) {
  if (source instanceof Blob) return [source, []];
  if (source instanceof HTMLImageElement) return ofImage(source);
  if (source instanceof HTMLVideoElement) return ofVideo(source);
  if (source instanceof HTMLCanvasElement || isA("OffscreenCanvas", source)) {
    return ofCanvas(source);
  }
  if (isA("ImageBitmap", source)) return ofBitmap(await bitmapOf(source));
  const { width, height, data } = source ?? {};
  return [{ width, height, data }, []];
}

function isA(kind, value) {
  return kind in globalThis && value instanceof globalThis[kind];
}

async function ofImage(image) {
  const name = image.alt || "the image";
  try {
    await image.decode();
  } catch {
    throw new ImageError(`${name}: the browser cannot show it; give another picture`);
  }
  const address = new URL(image.currentSrc, document.baseURI);
  // The file itself where the page may read it: what the element shows had its colors converted.
  if (["blob:", "data:"].includes(address.protocol) || address.origin === location.origin) {
    try {
      const response = await fetch(address);
      if (response.ok) return [await response.blob(), []];
    } catch {
      // The element is left, whose pixels differ little.
    }
  }
  return ofBitmap(await bitmapOf(image, name));
}

async function ofVideo(video) {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
    throw new ImageError("the video has no frame yet; wait for its event 'loadeddata'");
  }
  return ofBitmap(await bitmapOf(video, "the video"));
}

async function ofCanvas(canvas) {
  if (!canvas.width || !canvas.height) throw new ImageError("the canvas has no pixels; draw on it");
  return ofBitmap(await bitmapOf(canvas, "the canvas"));
}

function ofBitmap(bitmap) {
  return [bitmap, [bitmap]];
}

async function bitmapOf(source, name = "the picture") {
  try {
    return await createImageBitmap(source, { colorSpaceConversion: "none" });
  } catch (error) {
    throw new ImageError(`${name}: its pixels cannot be read (${reasonOf(error)}); give a file`);
  }
}
