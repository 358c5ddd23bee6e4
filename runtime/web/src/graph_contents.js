/**
 * What an ONNX file holds, read from its bytes before anything runs it.
 *
 * A reader of protobuf's wire format for the few fields of `onnx.proto` that matter here: the
 * domains of operators, the element types of constants, and where constants outside of the file
 * lie. Weights are skipped.
 */

const STANDARD_DOMAINS = new Set(["", "ai.onnx", "ai.onnx.ml"]);
// TensorProto.DataType: numbers and truth values; not texts, complex numbers, or what came later.
export const KNOWN_TYPES = new Set([1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16]);

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const DEEPEST = 32; // graphs within the attributes of nodes within graphs

/**
 * Return what a serialised ONNX model holds: custom operators, element types of its constants,
 * and the names of files outside of it that hold constants.
 *
 * @throws {Error} the bytes are no such model.
 */
export function graphContents(bytes) {
  const contents = { custom: new Set(), types: new Set(), locations: new Set() };
  let graphs = 0;
  for (const [number, value] of fields(bytes)) {
    if (number === 7) {
      readGraph(message(value), contents, 0);
      graphs++;
    } else if (number === 25) contents.custom.add("a function of its own");
    else if (number === 20) contents.custom.add("a training step");
  }
  if (!graphs) throw new Error("it holds no graph");
  return contents;
}

function readGraph(graph, contents, depth) {
  if (depth > DEEPEST) throw new Error("its graphs are nested too deeply");
  for (const [number, value] of fields(graph)) {
    if (number === 1) readNode(message(value), contents, depth);
    else if (number === 5) readTensor(message(value), contents);
    else if (number === 15) readSparse(message(value), contents);
  }
}

function readNode(node, contents, depth) {
  let operator = "";
  const domains = new Set();
  for (const [number, value] of fields(node)) {
    if (number === 4) operator = text(value);
    else if (number === 7) domains.add(text(value));
    else if (number === 5) {
      for (const [inner, part] of fields(message(value))) {
        if (inner === 6 || inner === 11) readGraph(message(part), contents, depth + 1);
        else if (inner === 5 || inner === 10) readTensor(message(part), contents);
        else if (inner === 22 || inner === 23) readSparse(message(part), contents);
      }
    }
  }
  for (const domain of domains) {
    if (!STANDARD_DOMAINS.has(domain)) contents.custom.add(`${domain}.${operator}`);
  }
}

function readSparse(sparse, contents) {
  for (const [number, value] of fields(sparse)) {
    if (number === 1 || number === 2) readTensor(message(value), contents);
  }
}

function readTensor(tensor, contents) {
  let places = 0;
  let elsewhere = false;
  for (const [number, value] of fields(tensor)) {
    if (number === 2 && typeof value === "number") contents.types.add(value);
    else if (number === 14) elsewhere = value !== 0;
    else if (number === 13) {
      const entry = new Map(fields(message(value)));
      if (text(entry.get(1) ?? new Uint8Array()) === "location") {
        contents.locations.add(text(entry.get(2) ?? new Uint8Array()));
        places++;
      }
    }
  }
  if (elsewhere && !places) contents.locations.add("");
}

function* fields(bytes) {
  let at = 0;
  while (at < bytes.length) {
    let tag, size;
    [tag, at] = varint(bytes, at);
    const number = Math.floor(tag / 8);
    const kind = tag % 8;
    // Parsers cut a tag to 32 bits; a longer one would be another field for them than for us.
    if (!number || tag >= 2 ** 32) throw new Error("it is damaged");
    if (kind === BYTES) [size, at] = varint(bytes, at);
    else if (kind === VARINT) {
      let value;
      [value, at] = varint(bytes, at);
      yield [number, value];
      continue;
    } else if (kind === FIXED64 || kind === FIXED32) size = kind === FIXED64 ? 8 : 4;
    else throw new Error("it is damaged");
    if (bytes.length - at < size) throw new Error("it is cut off");
    yield [number, bytes.subarray(at, at + size)];
    at += size;
  }
}

/** Return the number that begins at a place, and the place behind it. */
function varint(bytes, at) {
  let number = 0;
  for (let factor = 1; factor < 2 ** 64; factor *= 128) {
    if (at >= bytes.length) throw new Error("it is cut off");
    const byte = bytes[at++];
    number += (byte & 127) * factor;
    if (byte < 128) return [number, at];
  }
  throw new Error("it is damaged");
}

function message(value) {
  if (typeof value === "number") throw new Error("it is damaged");
  return value;
}

function text(value) {
  return new TextDecoder().decode(message(value));
}
