/** Pictures as a browser gives them, to rows of pixels: decoded, upright, without color profile. */

import { ImageError, reasonOf } from "./errors.js";
import { MAX_PIXELS, readImageFile } from "./image_files.js";

const MAX_BYTES = 2 ** 30; // of a file
const NO_PROFILE = { colorSpaceConversion: "none" };

/**
 * Return a picture as `width`, `height`, `rows(top, count)` (RGBA), `thumbnail(longest)`, which
 * only a browser can make, and `close()`.
 *
 * @param source a Blob with an image file, an ImageBitmap (which `close()` frees), or pixels:
 *   `width`, `height` and `data`, uint8 RGBA or RGB, as an ImageData has them.
 * @throws {ImageError} it is no picture that can be classified.
 */
export async function openPicture(source) {
  if (source instanceof Blob) return decode(source);
  if (globalThis.ImageBitmap && source instanceof ImageBitmap) return ofBitmap(source, 1);
  return ofPixels(source);
}

async function decode(blob) {
  const name = blob.name ?? "the picture";
  if (blob.size > MAX_BYTES) {
    throw new ImageError(
      `${name}: ${blob.size} bytes is past the limit of ${MAX_BYTES}; make the picture smaller`,
    );
  }
  let bytes;
  try {
    bytes = new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    throw new ImageError(`${name}: cannot be read (${reasonOf(error)}); choose it again`);
  }
  const file = await readImageFile(bytes, name);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([file.bytes], { type: file.type }), NO_PROFILE);
  } catch {
    throw new ImageError(
      `${name}: this browser cannot decode the ${file.format} file, which is damaged or of a kind ` +
        "that it does not read; convert it to PNG or leave it out",
    );
  }
  return ofBitmap(bitmap, file.orientation, name);
}

function ofBitmap(bitmap, orientation, name = "the picture") {
  const turned = orientation >= 5;
  const [width, height] = turned ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  if (width * height > MAX_PIXELS) {
    bitmap.close();
    throw new ImageError(
      `${name}: ${width}x${height} pixels are too many; make the picture smaller`,
    );
  }
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const region = (left, top, columns, rows) => {
    if (canvas.width < columns || canvas.height < rows) {
      [canvas.width, canvas.height] = [columns, rows];
    }
    try {
      context.globalCompositeOperation = "copy";
      context.imageSmoothingEnabled = false;
      context.drawImage(bitmap, left, top, columns, rows, 0, 0, columns, rows);
      return context.getImageData(0, 0, columns, rows).data;
    } catch (error) {
      throw new ImageError(
        `${name}: ${width}x${height} pixels do not fit this browser's memory ` +
          `(${reasonOf(error)}); make the picture smaller`,
      );
    }
  };
  return {
    width,
    height,
    rows: (top, count) => uprightRows(region, bitmap, orientation, top, count),
    thumbnail: (longest) => smaller(bitmap, orientation, width, height, longest),
    close: () => bitmap.close(),
  };
}

/** Return an upright ImageBitmap of at most so many pixels on its longer side, for people. */
function smaller(bitmap, orientation, width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = new OffscreenCanvas(
    Math.max(1, Math.round(width * scale)),
    Math.max(1, Math.round(height * scale)),
  );
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const mirror = [2, 3, 6, 7].includes(orientation) ? -1 : 1;
  const flip = [3, 4, 7, 8].includes(orientation) ? -1 : 1;
  context.translate(canvas.width / 2, canvas.height / 2);
  context.scale(mirror, flip);
  if (orientation >= 5) context.transform(0, 1, 1, 0, 0, 0); // rows become columns
  const turned = orientation >= 5;
  const [across, down] = turned ? [canvas.height, canvas.width] : [canvas.width, canvas.height];
  context.drawImage(bitmap, -across / 2, -down / 2, across, down);
  return canvas.transferToImageBitmap();
}

/** Return rows of the upright picture, RGBA, from regions of the stored one. */
function uprightRows(region, stored, orientation, top, count) {
  const { width: w, height: h } = stored;
  if (orientation === 1) return region(0, top, w, count);
  const mirrored = [2, 3, 6, 7].includes(orientation); // left and right of the upright picture
  const flipped = [3, 4, 7, 8].includes(orientation); // top and bottom
  const turned = orientation >= 5;
  const length = turned ? w : h; // of the axis that the upright rows run along
  const first = flipped ? length - top - count : top;
  const pixels = turned ? region(first, 0, count, h) : region(0, first, w, count);
  const from = new Uint32Array(pixels.buffer, pixels.byteOffset, pixels.length / 4);
  const width = turned ? h : w;
  const to = new Uint32Array(from.length);
  for (let row = 0; row < count; row++) {
    const y = flipped ? count - 1 - row : row;
    for (let column = 0; column < width; column++) {
      const x = mirrored ? width - 1 - column : column;
      to[row * width + column] = turned ? from[x * count + y] : from[y * w + x];
    }
  }
  return new Uint8ClampedArray(to.buffer);
}

function ofPixels(source) {
  const { width, height, data } = source ?? {};
  const pixels = width * height;
  if (!(ArrayBuffer.isView(data) && Number.isInteger(pixels) && pixels > 0)) {
    throw new ImageError(
      "a picture is an image, canvas or video element, a Blob, an ImageBitmap, or an object with " +
        "width, height and data (uint8, RGB or RGBA)",
    );
  }
  const channels = data.length / pixels;
  if (data.BYTES_PER_ELEMENT !== 1 || (channels !== 3 && channels !== 4)) {
    throw new ImageError(
      `the data of a picture of ${width}x${height} pixels is uint8 with 3 or 4 values a pixel; ` +
        `received ${data.constructor.name} of ${data.length}`,
    );
  }
  const rows = (top, count) => {
    const part = data.subarray(top * width * channels, (top + count) * width * channels);
    return channels === 4 ? new Uint8ClampedArray(part) : withAlpha(part);
  };
  const thumbnail = async (longest) => {
    const bitmap = await createImageBitmap(new ImageData(rows(0, height).slice(), width));
    return smaller(bitmap, 1, width, height, longest);
  };
  return { width, height, rows, thumbnail, close() {} };
}

function withAlpha(rgb) {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
    rgba[to + 3] = 255;
  }
  return rgba;
}
