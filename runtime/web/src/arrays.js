/** NumPy's arrays in the `.npz` files of a bundle. */

import { readEntries, readEntry } from "./archives.js";

const MOST_BYTES = 2 ** 30;
const TYPES = {
  "|u1": ["uint8", Uint8Array],
  "<f2": ["float16", Uint16Array],
  "<f4": ["float32", Float32Array],
  "<f8": ["float64", Float64Array],
  "<i8": ["int64", BigInt64Array],
};

/**
 * Return the arrays of an `.npz` file by their names: dtype, shape, and data in C order.
 *
 * float16 comes as a Float32Array.
 *
 * @throws {Error} it is damaged, of another kind, or would fill the memory.
 */
export async function readArrays(bytes) {
  const entries = readEntries(bytes);
  const total = entries.reduce((sum, entry) => sum + entry.size, 0);
  if (total > MOST_BYTES) throw new Error(`it would grow to ${total} bytes`);
  const arrays = {};
  for (const entry of entries) {
    if (!entry.name.endsWith(".npy")) throw new Error(`${entry.name} is no array`);
    arrays[entry.name.slice(0, -4)] = readArray(await readEntry(bytes, entry), entry.name);
  }
  return arrays;
}

function readArray(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = bytes[6];
  if (
    bytes.length < 12 ||
    String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY" ||
    version > 3
  ) {
    throw new Error(`${name} is no array`);
  }
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const header = new TextDecoder().decode(bytes.subarray(start, start + length));
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/
    .exec(header)?.[1]
    .split(",")
    .filter((part) => part.trim());
  if (!TYPES[descr] || !shape) throw new Error(`${name} is of the type ${descr}`);
  const [dtype, Kind] = TYPES[descr];
  const sizes = shape.map(Number);
  const count = sizes.reduce((product, size) => product * size, 1);
  const end = start + length + count * Kind.BYTES_PER_ELEMENT;
  if (!Number.isSafeInteger(count) || end > bytes.length) throw new Error(`${name} is cut off`);
  const raw = new Kind(bytes.slice(start + length, end).buffer);
  let data = dtype === "float16" ? Float32Array.from(raw, fromHalf) : raw;
  if (/'fortran_order':\s*True/.test(header)) data = inRows(data, sizes);
  return { dtype, shape: sizes, data };
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Return an array that lies column by column (Fortran) as it lies row by row (C). */
function inRows(data, shape) {
  const result = new data.constructor(data.length);
  const place = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    let at = 0;
    for (let axis = 0; axis < shape.length; axis++) at = at * shape[axis] + place[axis];
    result[at] = data[i];
    for (let axis = 0; axis < shape.length && ++place[axis] === shape[axis]; axis++)
      place[axis] = 0;
  }
  return result;
}
