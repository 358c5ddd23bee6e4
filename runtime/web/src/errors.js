/**
 * Every error that a user can fix, in one sentence: what is wrong, where, and what to do.
 *
 * They cross from the worker to the page as name and message.
 */

export class FicError extends Error {
  get name() {
    return "FicError";
  }
}

/** A bundle is missing, damaged, of a newer format, or does not fit what it is used with. */
export class BundleError extends FicError {
  get name() {
    return "BundleError";
  }
}

/** A bundle is a head only, and needs the bundle that has its base. */
export class HeadOnlyError extends BundleError {
  get name() {
    return "HeadOnlyError";
  }
}

/** A file or an array is not a picture that can be classified. */
export class ImageError extends FicError {
  get name() {
    return "ImageError";
  }
}

/** This browser cannot run the engine. */
export class EngineError extends FicError {
  get name() {
    return "EngineError";
  }
}

const KINDS = { FicError, BundleError, HeadOnlyError, ImageError, EngineError };

/** Return what `postMessage` can carry of an error. */
export function toMessage(error) {
  const known = error instanceof FicError;
  return { name: known ? error.name : "Error", message: String(error?.message ?? error) };
}

/** Return the error that `toMessage` described. */
export function fromMessage({ name, message }) {
  return new (KINDS[name] ?? Error)(message);
}

/** Return the first line of what somebody else's error says. */
export function reasonOf(error) {
  const [line] = String(error?.message ?? error).split("\n");
  return line || error?.name || "unknown reason";
}
