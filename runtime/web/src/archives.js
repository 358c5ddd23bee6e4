/** Zip archives (PKWARE's APPNOTE): of bundles, and of NumPy's arrays within them. */

import { crc32 } from "./digests.js";

const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;
const END_SIZE = 22;
const ENTRY_SIZE = 46;
const HEADER_SIZE = 30;

/**
 * Return the entries of an archive in their order: name, size, packed, method, crc, start, flags.
 *
 * @throws {Error} it is no zip archive.
 */
export function readEntries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (count === 0xffff || at === 0xffffffff) throw new Error("it is larger than 4 GB");
  const entries = [];
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_SIZE > end || view.getUint32(at, true) !== 0x02014b50) {
      throw new Error("its directory is damaged");
    }
    const nameSize = view.getUint16(at + 28, true);
    const nameBytes = bytes.subarray(at + ENTRY_SIZE, at + ENTRY_SIZE + nameSize);
    entries.push({
      name: new TextDecoder("utf-8", { fatal: true }).decode(nameBytes),
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      start: view.getUint32(at + 42, true),
    });
    at += ENTRY_SIZE + nameSize + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return entries;
}

function findEnd(view) {
  const least = Math.max(0, view.byteLength - END_SIZE - 0xffff);
  for (let at = view.byteLength - END_SIZE; at >= least; at--) {
    if (view.getUint32(at, true) === 0x06054b50) return at;
  }
  throw new Error("it has no directory");
}

/**
 * Return the content of one entry, never more than the size that the archive states.
 *
 * @throws {Error} it is damaged, encrypted, or packed in another way.
 */
export async function readEntry(bytes, entry) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (entry.flags & ENCRYPTED) throw new Error(`${entry.name} is encrypted`);
  if (
    entry.start + HEADER_SIZE > bytes.length ||
    view.getUint32(entry.start, true) !== 0x04034b50
  ) {
    throw new Error(`${entry.name} is not where the directory says`);
  }
  const names = view.getUint16(entry.start + 26, true) + view.getUint16(entry.start + 28, true);
  const start = entry.start + HEADER_SIZE + names;
  if (start + entry.packed > bytes.length) throw new Error(`${entry.name} is cut off`);
  const packed = bytes.subarray(start, start + entry.packed);
  const content = await unpack(packed, entry);
  if (content.length !== entry.size || crc32(content) !== entry.crc) {
    throw new Error(`${entry.name} is damaged`);
  }
  return content;
}

async function unpack(packed, entry) {
  if (entry.method === STORED) return packed;
  if (entry.method === DEFLATED) return inflate(packed, entry.size, "deflate-raw");
  throw new Error(`${entry.name} is packed by method ${entry.method}`);
}

/**
 * Return what was deflated, of a size that is known.
 *
 * @param {"deflate-raw" | "deflate" | "gzip"} format
 * @throws {Error} it is damaged or of another size.
 */
export async function inflate(packed, size, format) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream(format));
  const reader = stream.getReader();
  const content = new Uint8Array(size);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > size) {
      await reader.cancel();
      throw new Error("it is larger than it says");
    }
    content.set(value, filled);
    filled += value.length;
  }
  if (filled < size) throw new Error("it is smaller than it says");
  return content;
}
