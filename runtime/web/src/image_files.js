/**
 * What a picture file says about itself, checked before a decoder is allowed to believe it.
 *
 * Browsers show half a picture for a truncated file, differ in what they turn upright, and apply
 * colour profiles and gammas that fic-runtime ignores. So the file is walked block by block, and
 * the decoder gets a copy without orientation, colour profile, text, frames after the first and,
 * where that is possible without loss, alpha.
 */

import { inflate } from "./archives.js";
import { crc32 } from "./digests.js";
import { ImageError } from "./errors.js";

export const MAX_PIXELS = 2 ** 27; // 134 megapixels
export const MAX_SIDE = 65535;

const TRUNCATED = "ends before its picture does; copy it again or leave it out";
const REMEDY = "repair it or leave it out";

class Damage extends Error {}

/** Bytes by their places; what lies past the end throws a RangeError. */
class Bytes {
  constructor(bytes) {
    this.bytes = bytes;
    this.length = bytes.length;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(at) {
    return this.view.getUint8(at);
  }

  u16(at, little = false) {
    return this.view.getUint16(at, little);
  }

  u32(at, little = false) {
    return this.view.getUint32(at, little);
  }

  u24(at) {
    return this.u16(at, true) + this.u8(at + 2) * 65536;
  }

  text(at, length) {
    return String.fromCharCode(...this.bytes.subarray(at, at + length));
  }

  slice(start, end) {
    return this.bytes.subarray(start, end);
  }
}

const KINDS = [
  ["JPEG", "image/jpeg", readJpeg, (data) => data.text(0, 3) === "\xff\xd8\xff"],
  ["PNG", "image/png", readPng, (data) => data.text(0, 8) === "\x89PNG\r\n\x1a\n"],
  ["GIF", "image/gif", readGif, (data) => /^GIF8[79]a/.test(data.text(0, 6))],
  ["BMP", "image/bmp", readBmp, (data) => data.text(0, 2) === "BM"],
  ["WebP", "image/webp", readWebp, (data) => /^RIFF.{4}WEBP/s.test(data.text(0, 12))],
  ["AVIF", "image/avif", readAvif, isAvif],
];
// Which fic-runtime reads and browsers do not.
const ELSEWHERE = [
  ["TIFF", /^(II[*+]\0|MM\0[*+])/],
  ["PNM", /^P[456]\s/],
];

/**
 * Walk the blocks of a picture file and return what a decoder shall get.
 *
 * @param {Uint8Array} bytes the whole file.
 * @param {string} name for messages.
 * @returns `format`, `type` (MIME), `width` and `height` as stored, `orientation` (EXIF, 1 to 8,
 *   still to be applied) and `bytes`.
 * @throws {ImageError} not a picture of a known format, truncated, damaged, or too large.
 */
export async function readImageFile(bytes, name) {
  const data = new Bytes(bytes);
  if (!bytes.length)
    throw new ImageError(`${name}: the file is empty; choose it again or leave it out`);
  const kind = KINDS.find(([, , , fits]) => fits(data));
  if (!kind) throw unknownFormat(data, name);
  const [format, type, read] = kind;
  let found;
  try {
    found = await read(data);
  } catch (error) {
    const ended = error instanceof RangeError; // read past the end
    if (!ended && !(error instanceof Damage)) throw error;
    throw new ImageError(`${name}: the ${format} file ${ended ? TRUNCATED : error.message}`);
  }
  const { width, height } = found;
  if (Math.min(width, height) < 1) {
    throw new ImageError(
      `${name}: the ${format} file has no pixels (${width}x${height}); ${REMEDY}`,
    );
  }
  if (Math.max(width, height) > MAX_SIDE || width * height > MAX_PIXELS) {
    throw new ImageError(
      `${name}: ${width}x${height} pixels is past the limit of ${MAX_PIXELS} pixels and ` +
        `${MAX_SIDE} a side; make the picture smaller`,
    );
  }
  return { format, type, orientation: 1, bytes, ...found };
}

function unknownFormat(data, name) {
  const start = data.text(0, 4);
  const elsewhere = ELSEWHERE.find(([, pattern]) => pattern.test(start));
  if (elsewhere) {
    return new ImageError(`${name}: browsers do not read ${elsewhere[0]} files; convert it to PNG`);
  }
  return new ImageError(
    `${name}: not a picture of a known format (${KINDS.map(([format]) => format).join(", ")}); ` +
      "convert it to JPEG or PNG, or leave it out",
  );
}

function joined(parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** Return the orientation, 1 to 8, of an EXIF block; a damaged one must not cost the picture. */
function exifOrientation(block) {
  try {
    const data = new Bytes(block);
    const start = data.text(0, 6) === "Exif\0\0" ? 6 : 0;
    const little = data.u8(start) === 0x49;
    const directory = start + data.u32(start + 4, little);
    for (let i = 0, count = data.u16(directory, little); i < count; i++) {
      const entry = directory + 2 + 12 * i;
      if (data.u16(entry, little) !== 274) continue;
      const kind = data.u16(entry + 2, little);
      const value = { 1: () => data.u8(entry + 8), 3: () => data.u16(entry + 8, little) };
      value[4] = () => data.u32(entry + 8, little);
      const orientation = value[kind]?.() ?? 1;
      return orientation >= 1 && orientation <= 8 ? orientation : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

// JPEG: ITU-T T.81, annex B

const MAX_SCANS = 100; // a progressive photo has about ten

function readJpeg(data) {
  let at = 2;
  let start = 0;
  let orientation = 1;
  let frame = null;
  const kept = [data.slice(0, 2)];
  for (;;) {
    // Search, as libjpeg does: some cameras leave junk between segments.
    const marker = nextMarker(data, at);
    if (marker < 0) throw new Damage(TRUNCATED);
    const kind = data.u8(marker + 1);
    if (kind === 0xd9) throw new Damage(`holds no picture; ${REMEDY}`);
    const end = marker + 2 + data.u16(marker + 2);
    if (kind === 0xda) {
      start = end;
      kept.push(data.slice(marker));
      break;
    }
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) {
      frame ??= { kind, height: data.u16(marker + 5), width: data.u16(marker + 7) };
    } else if (kind === 0xe1 && orientation === 1) {
      orientation = exifOrientation(data.slice(marker + 4, end));
    }
    // Of the application's own only JFIF (e0) and Adobe's (ee), which says how colours are stored.
    const applications = kind >= 0xe1 && kind <= 0xef && kind !== 0xee;
    if (!applications && kind !== 0xfe) kept.push(data.slice(marker, end));
    at = end;
  }
  if (!frame) throw new Damage(`has no frame header; ${REMEDY}`);
  const { ends, scans } = scansOf(data, start);
  if (!ends) throw new Damage(TRUNCATED);
  const { width, height } = frame;
  // A Huffman-coded block of 64 pixels takes a bit at least, with subsampling 256 pixels do.
  if (frame.kind <= 0xc2 && width * height > 2048 * data.length) {
    throw new Damage(`is too short for the ${width}x${height} pixels it claims; ${REMEDY}`);
  }
  if (scans >= MAX_SCANS) {
    throw new Damage(`has over ${MAX_SCANS} scans; save it anew or leave it out`);
  }
  return { width, height, orientation, bytes: joined(kept) };
}

/** Return the place of the next marker that begins a segment, or of the end's; -1 if none. */
function nextMarker(data, from) {
  for (let at = data.bytes.indexOf(0xff, from); at >= 0; at = data.bytes.indexOf(0xff, at + 1)) {
    const kind = data.bytes[at + 1];
    const inside = kind === undefined || kind < 2 || (kind >= 0xd0 && kind <= 0xd8) || kind === 255;
    if (!inside) return at;
  }
  return -1;
}

function scansOf(data, from) {
  let [ends, scans] = [false, 0];
  for (let at = data.bytes.indexOf(0xff, from); at >= 0; at = data.bytes.indexOf(0xff, at + 1)) {
    if (data.bytes[at + 1] === 0xd9 && at > from) ends = true;
    if (data.bytes[at + 1] === 0xda) scans++;
  }
  return { ends, scans };
}

// PNG: w3.org/TR/png-3

const PNG_KEPT = ["IHDR", "PLTE", "IDAT", "IEND"];
const PNG_CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
// Start and step of rows and columns in the seven passes of an interlaced picture.
const ADAM7 = [
  [0, 8, 0, 8],
  [0, 8, 4, 8],
  [4, 8, 0, 4],
  [0, 4, 2, 4],
  [2, 4, 0, 2],
  [0, 2, 1, 2],
  [1, 2, 0, 1],
];

async function readPng(data) {
  let at = 8;
  let orientation = 1;
  const chunks = [];
  for (let kind = ""; kind !== "IEND";) {
    const length = data.u32(at);
    kind = data.text(at + 4, 4);
    const end = at + 12 + length;
    const checksum = data.u32(end - 4);
    if (PNG_KEPT.includes(kind)) {
      if (crc32(data.slice(at + 4, end - 4)) !== checksum) {
        throw new Damage(`has a wrong checksum in ${kind}; ${REMEDY}`);
      }
      chunks.push({ kind, body: data.slice(at + 8, end - 4) });
    } else if (kind === "eXIf") {
      orientation = exifOrientation(data.slice(at + 8, end - 4));
    } else if (!(kind.charCodeAt(0) & 0x20)) {
      throw new Damage(`holds an unknown critical chunk; ${REMEDY}`);
    }
    at = end;
  }
  const bodies = (kind) => chunks.filter((chunk) => chunk.kind === kind).map(({ body }) => body);
  const [header] = bodies("IHDR");
  if (chunks[0]?.kind !== "IHDR" || header.length !== 13 || !bodies("IDAT").length) {
    throw new Damage(`lacks its header or pixels; ${REMEDY}`);
  }
  const [depth, color] = header.subarray(8, 10);
  if (![1, 2, 4, 8, 16].includes(depth) || !(color in PNG_CHANNELS)) {
    throw new Damage(`has the unknown color type ${color} with ${depth} bits; ${REMEDY}`);
  }
  if (color === 3 && !bodies("PLTE").length) throw new Damage(`lacks its palette; ${REMEDY}`);
  const fields = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const [width, height] = [fields.getUint32(0), fields.getUint32(4)];
  const found = { width, height, orientation };
  if (width * height > MAX_PIXELS || width * height === 0) return found;
  const pixels = joined(bodies("IDAT"));
  const plain = depth <= 8 && color < 4;
  const parts = plain ? null : await withoutAlpha(pixels, header, width, height);
  return {
    ...found,
    bytes: joined([
      Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
      pngChunk("IHDR", parts ? parts.header : header),
      ...(color === 3 ? bodies("PLTE").map((body) => pngChunk("PLTE", body)) : []),
      pngChunk("IDAT", parts ? parts.pixels : pixels),
      pngChunk("IEND", new Uint8Array()),
    ]),
  };
}

/**
 * Drop the alpha channel, and the low bytes of 16 bits, from the compressed rows of a PNG.
 *
 * A row's filter predicts each byte from bytes of the same channel alone, so whole channels may be
 * taken out while the rows stay filtered. A canvas would lose colors where they are transparent.
 */
async function withoutAlpha(packed, header, width, height) {
  const [depth, color, , , interlaced] = header.subarray(8);
  const bytes = depth / 8;
  const channels = PNG_CHANNELS[color];
  const colors = color === 4 || color === 0 ? 1 : 3;
  const passes = interlaced ? ADAM7 : [[0, 1, 0, 1]];
  const sizes = passes
    .map(([top, down, left, across]) => ({
      rows: Math.max(0, Math.ceil((height - top) / down)),
      columns: Math.max(0, Math.ceil((width - left) / across)),
    }))
    .filter(({ rows, columns }) => rows && columns);
  const total = (each) =>
    sizes.reduce((sum, { rows, columns }) => sum + rows * (1 + columns * each), 0);
  let rows;
  try {
    rows = await inflate(packed, total(channels * bytes), "deflate");
  } catch {
    throw new Damage(`has damaged pixels; ${REMEDY}`);
  }
  const result = new Uint8Array(total(colors));
  let [from, to] = [0, 0];
  for (const size of sizes) {
    for (let row = 0; row < size.rows; row++) {
      result[to++] = rows[from++];
      for (let column = 0; column < size.columns; column++) {
        for (let c = 0; c < colors; c++) result[to++] = rows[from + c * bytes];
        from += channels * bytes;
      }
    }
  }
  const changed = header.slice();
  changed.set([8, colors === 1 ? 0 : 2], 8);
  return { header: changed, pixels: await deflated(result) };
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function pngChunk(kind, body) {
  const chunk = new Uint8Array(12 + body.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length);
  chunk.set(new TextEncoder().encode(kind), 4);
  chunk.set(body, 8);
  view.setUint32(8 + body.length, crc32(chunk.subarray(4, 8 + body.length)));
  return chunk;
}

// GIF: w3.org/Graphics/GIF/spec-gif89a.txt

function readGif(data) {
  let [width, height] = [data.u16(6, true), data.u16(8, true)];
  let at = 13 + gifPalette(data.u8(10));
  let firstEnd = 0;
  for (let block = data.u8(at); block !== 0x3b; block = data.u8(at)) {
    if (block === 0x21) at = skipGifBlocks(data, at + 2);
    else if (block === 0x2c) {
      const [left, top, columns, rows] = [1, 3, 5, 7].map((place) => data.u16(at + place, true));
      at = skipGifBlocks(data, at + 11 + gifPalette(data.u8(at + 9)));
      if (!firstEnd) {
        firstEnd = at;
        width = Math.max(width, left + columns);
        height = Math.max(height, top + rows);
      }
    } else throw new Damage(`holds an unknown block; ${REMEDY}`);
  }
  if (!firstEnd) throw new Damage(`holds no picture; ${REMEDY}`);
  return { width, height, bytes: joined([data.slice(0, firstEnd), Uint8Array.of(0x3b)]) };
}

function gifPalette(flags) {
  return flags & 0x80 ? 6 << (flags & 7) : 0;
}

function skipGifBlocks(data, at) {
  for (let size = data.u8(at); size; size = data.u8(at)) at += size + 1;
  return at + 1;
}

// BMP: learn.microsoft.com, BITMAPINFOHEADER

function readBmp(data) {
  const offset = data.u32(10, true);
  let width, height, bits;
  let [compression, stored] = [0, 0];
  if (data.u32(14, true) === 12) {
    [width, height, bits] = [data.u16(18, true), data.u16(20, true), data.u16(24, true)];
  } else {
    width = data.view.getInt32(18, true);
    height = Math.abs(data.view.getInt32(22, true)); // negative: the rows are stored from the top
    bits = data.u16(28, true);
    [compression, stored] = [data.u32(30, true), data.u32(34, true)];
  }
  if (width < 1) throw new Damage(`has a width of ${width}; ${REMEDY}`);
  let needed = stored;
  if ([0, 3, 6].includes(compression)) needed = Math.floor((width * bits + 31) / 32) * 4 * height;
  else if (compression !== 1 && compression !== 2) {
    throw new Damage("has another format's data inside; convert it to PNG or leave it out");
  }
  if (offset + Math.max(needed, 1) > data.length) throw new Damage(TRUNCATED);
  const alpha = data.u32(14, true) >= 56 && bits === 32;
  return { width, height, ...(alpha ? { bytes: withoutMask(data.bytes) } : {}) };
}

function withoutMask(bytes) {
  const copy = bytes.slice();
  copy.fill(0, 66, 70); // which bits of a pixel are alpha: none
  return copy;
}

// WebP: developers.google.com/speed/webp/docs/riff_container

function readWebp(data) {
  const end = 8 + data.u32(4, true);
  let frame = null;
  let orientation = 1;
  for (let at = 12; at < end;) {
    const kind = data.text(at, 4);
    const length = data.u32(at + 4, true);
    const start = at + 8;
    at = start + length + (length & 1);
    if (Math.max(start + length, end) > data.length) throw new Damage(TRUNCATED);
    const body = data.slice(start, start + length);
    if (kind === "EXIF") orientation = exifOrientation(body);
    else if (!frame && (kind === "VP8 " || kind === "VP8L")) frame = webpFrame(kind, body);
    else if (!frame && kind === "ANMF") frame = frameOfAnimation(new Bytes(body.subarray(16)));
  }
  if (!frame) throw new Damage(`holds no picture; ${REMEDY}`);
  return { ...frame, orientation };
}

function frameOfAnimation(data) {
  for (let at = 0; at < data.length;) {
    const kind = data.text(at, 4);
    const length = data.u32(at + 4, true);
    if (kind === "VP8 " || kind === "VP8L") {
      return webpFrame(kind, data.slice(at + 8, at + 8 + length));
    }
    at += 8 + length + (length & 1);
  }
  return null;
}

/**
 * Return the picture alone as a file of its own: without profile, EXIF and animation, and without
 * alpha unless it is lossless, where alpha is among the pixels.
 */
function webpFrame(kind, body) {
  const data = new Bytes(body);
  let [width, height] = [0, 0];
  if (kind === "VP8 ") {
    [width, height] = [data.u16(6, true) & 0x3fff, data.u16(8, true) & 0x3fff];
  } else {
    const bits = data.u32(1, true);
    [width, height] = [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
  }
  const padded = body.length + (body.length & 1);
  const file = new Uint8Array(20 + padded);
  const view = new DataView(file.buffer);
  file.set(new TextEncoder().encode("RIFF"), 0);
  view.setUint32(4, 12 + padded, true);
  file.set(new TextEncoder().encode(`WEBP${kind}`), 8);
  view.setUint32(16, body.length, true);
  file.set(body, 20);
  return { width, height, bytes: file };
}

// AVIF: ISO/IEC 14496-12 (boxes) and 23008-12 (ispe); a decoder turns it upright by itself

function isAvif(data) {
  if (data.text(4, 4) !== "ftyp") return false;
  const brands = data.text(8, Math.min(data.u32(0), 256));
  return brands.includes("avif") || brands.includes("avis");
}

function readAvif(data) {
  let meta = null;
  for (let at = 0; at < data.length;) {
    let size = data.u32(at);
    if (size === 1) size = data.u32(at + 8) * 2 ** 32 + data.u32(at + 12);
    const end = size ? at + size : data.length;
    if (end > data.length || end < at + 8) throw new Damage(TRUNCATED);
    if (data.text(at + 4, 4) === "meta") meta = new Bytes(data.slice(at, end));
    at = end;
  }
  // The largest of all sizes: a grid's tiles and an alpha plane state theirs as well.
  let [width, height] = [0, 0];
  for (let at = 4; meta && at + 16 <= meta.length; at++) {
    if (meta.u32(at) !== 0x69737065) continue; // ispe
    const [columns, rows] = [meta.u32(at + 8), meta.u32(at + 12)];
    if (columns * rows > width * height) [width, height] = [columns, rows];
  }
  if (!width) throw new Damage(`states no size; ${REMEDY}`);
  return { width, height };
}
