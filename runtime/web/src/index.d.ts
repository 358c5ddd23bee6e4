/** Classify pictures in a web page, with the answers of fic-runtime. */

/**
 * A bundle that `fic export` wrote: the address of a folder, or of an archive (.zip); a Blob or
 * File, an ArrayBuffer or a Uint8Array with an archive; or files by their names.
 */
export type BundleSource =
  | string
  | URL
  | Blob
  | ArrayBuffer
  | Uint8Array
  | Map<string, Uint8Array>
  | Record<string, Uint8Array>;

/** Decoded pixels: uint8, RGBA or RGB, row by row from the top. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array | Uint8ClampedArray;
}

/**
 * What can be classified. An image element of the page's own origin and a Blob are decoded from
 * their files; ImageBitmaps are used up, as if they were closed.
 */
export type Picture =
  | Blob
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | ImageBitmap
  | ImageData
  | Pixels;

export interface OpenOptions {
  /** Another bundle whose head is taken, head-only or whole, made for the very base of the bundle. */
  head?: BundleSource;
  /** More than one needs a page that is cross-origin isolated (COOP and COEP). Default: 1. */
  threads?: number;
  /** ONNX Runtime's WebAssembly file: its address or content. Default: beside the worker. */
  wasm?: string | URL | ArrayBuffer | Uint8Array;
  /**
   * The address of the worker's script, or the worker itself, which no other classifier may use.
   * Default: `worker.js` beside this module.
   */
  worker?: string | URL | Worker;
}

/** One label with its index in the labels and its probability, 0 to 1. */
export interface Score {
  readonly label: string;
  readonly index: number;
  readonly probability: number;
}

/** What the classifier says of one picture. */
export class Prediction implements Score {
  readonly label: string;
  readonly index: number;
  readonly probability: number;
  /** In the order of the labels. */
  readonly probabilities: Float32Array;
  /** Whether the picture is like those of the training; null where the bundle has no score. */
  readonly known: boolean | null;
  /** The score by which that is told; higher is stranger. */
  readonly score: number | null;
  /** Return the `k` most probable labels, best first; ties keep the order of the labels. */
  top(k?: number): Score[];
}

/** A part of a picture, in shares of its height and width. */
export interface Part {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** Where the head sees a label in one picture. */
export interface Explanation extends Score {
  /** The label's logit at each place, above the mean of all labels: (rows, columns), row by row. */
  readonly heat: Float32Array;
  readonly rows: number;
  readonly columns: number;
  /** The part of the picture that the base saw. */
  readonly seen: Part;
  /** The part of the base's input that this filled. */
  readonly filled: Part;
}

/** How far this browser is from what was recorded when the bundle was exported. */
export interface SelfTest {
  readonly passed: boolean;
  readonly pictures: number;
  /** Grey levels after decode and resize; null where nothing was decoded. At most 2. */
  readonly pixels: number | null;
  /** Relative to the largest bottleneck. */
  readonly bottlenecks: number;
  readonly probabilities: number;
  /** Of the scores for unknown pictures, relative; null where none are recorded. At most 0.001. */
  readonly scores: number | null;
  readonly bottlenecksTolerance: number;
  readonly probabilitiesTolerance: number;
}

/** The content of `manifest.json`; `docs/reference/bundle-format.md` describes its fields. */
export interface Manifest {
  readonly format: number;
  readonly labels: readonly string[];
  readonly preprocessing: {
    readonly geometry: {
      readonly height: number;
      readonly width: number;
      readonly resize: "stretch" | "crop" | "pad";
      readonly crop_fraction: number;
      readonly jpeg_margin: number;
    };
  };
  readonly files: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** An image classifier that `fic export` wrote, at work in a worker of its own. */
export class Classifier {
  private constructor();

  /**
   * Open and check a bundle.
   *
   * @throws {BundleError} no bundle there, it is damaged or of a newer format, or `head` is for
   *   another base.
   * @throws {EngineError} WebAssembly or the worker does not work here.
   */
  static open(source: BundleSource, options?: OpenOptions): Promise<Classifier>;

  readonly labels: readonly string[];
  readonly manifest: Manifest;
  /** The model card in Markdown. */
  readonly card: string;
  /** Whether the bundle has what `explain` needs. */
  readonly explainable: boolean;

  /** @throws {ImageError} it is no picture that can be classified. */
  predict(picture: Picture): Promise<Prediction>;
  /** Return the bottleneck of a picture. */
  extract(picture: Picture): Promise<Float32Array>;
  /** Return what the base gets for a picture: uint8 RGB, row by row. */
  pixels(picture: Picture): Promise<Uint8Array>;
  /** Return a small picture for people, upright; `longest` is of its longer side, 640 by default. */
  thumbnail(picture: Picture, longest?: number): Promise<ImageBitmap>;
  /** Return where a label, by default the most probable one, is seen. */
  explain(picture: Picture, label?: string): Promise<Explanation>;
  /** Compare with what was recorded when the bundle was exported. */
  selfTest(): Promise<SelfTest>;
  /** End the worker and free all memory. */
  close(): void;
}

/** Draw where a label is seen on a canvas that shows the whole picture, upright. */
export function drawHeat(
  context: CanvasRenderingContext2D,
  explanation: Explanation,
  options?: { opacity?: number },
): void;

/** Root of all errors that a user can fix; the message is one sentence. */
export class FicError extends Error {}
/** A bundle is missing, damaged, of a newer format, or does not fit what it is used with. */
export class BundleError extends FicError {}
/** A bundle is a head only, and needs the bundle that has its base. */
export class HeadOnlyError extends BundleError {}
/** A file or an array is not a picture that can be classified. */
export class ImageError extends FicError {}
/** This browser cannot run the engine. */
export class EngineError extends FicError {}
