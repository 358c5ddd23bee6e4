/** The same in Node, on decoded pixels. */

import type { BundleSource, Explanation, Manifest, Pixels, Prediction, SelfTest } from "./index.js";

export type { BundleSource, Explanation, Manifest, Pixels, Score, SelfTest } from "./index.js";
export {
  BundleError,
  EngineError,
  FicError,
  HeadOnlyError,
  ImageError,
  Prediction,
} from "./index.js";

export interface OpenOptions {
  /** `onnxruntime-web/wasm`, or another engine of its interface such as `onnxruntime-node`. */
  ort?: unknown;
  head?: BundleSource;
  threads?: number;
}

export class Classifier {
  private constructor();
  /** `source` may also be the path of a folder or an archive. */
  static open(source: BundleSource, options?: OpenOptions): Promise<Classifier>;
  readonly labels: readonly string[];
  readonly manifest: Manifest;
  readonly card: string;
  predict(picture: Pixels): Promise<Prediction>;
  extract(picture: Pixels): Promise<Float32Array>;
  pixels(picture: Pixels): Promise<Uint8Array>;
  explain(picture: Pixels, label?: string): Promise<Explanation>;
  selfTest(): Promise<SelfTest>;
  close(): Promise<void>;
}
