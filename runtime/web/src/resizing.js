/**
 * From a decoded picture to the size of the base's input, as OpenCV does it for fic-runtime.
 *
 * A picture is `width`, `height` and `rows(top, count)`, which gives RGBA bytes of whole rows: so
 * a large photo need not lie in memory a second time.
 */

const ROWS_AT_ONCE = 2 ** 19; // pixels

/**
 * Return uint8 RGB of the geometry's size, row by row.
 *
 * @param picture see above.
 * @param geometry that of the manifest: `stretch`, `crop` (the central part of the target's aspect
 *   ratio first) or `pad` (the whole picture in the middle of black).
 */
export function resizePicture(picture, geometry) {
  const { height, width } = geometry;
  const whole = { top: 0, left: 0, rows: picture.height, columns: picture.width };
  if (geometry.resize === "crop") {
    return stretch(picture, centralPart(picture.height, picture.width, geometry), height, width);
  }
  if (geometry.resize === "stretch") return stretch(picture, whole, height, width);
  const { top, left, rows, columns } = fittedPart(picture.height, picture.width, geometry);
  const fitted = stretch(picture, whole, rows, columns);
  const result = new Uint8Array(height * width * 3);
  for (let row = 0; row < rows; row++) {
    const from = fitted.subarray(row * columns * 3, (row + 1) * columns * 3);
    result.set(from, ((top + row) * width + left) * 3);
  }
  return result;
}

/** Return the part of a picture that `crop` takes. */
export function centralPart(height, width, geometry) {
  const scale = geometry.crop_fraction * Math.min(height / geometry.height, width / geometry.width);
  const rows = clamp(roundHalfToEven(scale * geometry.height), 1, height);
  const columns = clamp(roundHalfToEven(scale * geometry.width), 1, width);
  return { top: (height - rows) >> 1, left: (width - columns) >> 1, rows, columns };
}

/** Return the part of the input where `pad` lays a picture. */
export function fittedPart(height, width, geometry) {
  const scale = Math.min(geometry.height / height, geometry.width / width);
  const rows = clamp(roundHalfToEven(scale * height), 1, geometry.height);
  const columns = clamp(roundHalfToEven(scale * width), 1, geometry.width);
  const [top, left] = [(geometry.height - rows) >> 1, (geometry.width - columns) >> 1];
  return { top, left, rows, columns };
}

function stretch(picture, part, height, width) {
  const rows = Math.min(height, part.rows);
  const columns = Math.min(width, part.columns);
  const shrunk = shrink(picture, part, rows, columns);
  return rows === height && columns === width ? shrunk : grow(shrunk, rows, columns, height, width);
}

/** The mean of the pixels that each new one covers, weighted by the part covered: INTER_AREA. */
function shrink(picture, part, height, width) {
  if (height === part.rows && width === part.columns) return copied(picture, part);
  const across = coverage(part.columns, width);
  const down = coverage(part.rows, height);
  // Whole factors: OpenCV adds integers and multiplies once; by two in both it rounds halves up.
  const whole = part.rows % height === 0 && part.columns % width === 0;
  const area = (part.rows / height) * (part.columns / width);
  const byTwo = whole && part.rows === 2 * height && part.columns === 2 * width;
  const line = new Float32Array(width * 3);
  const sums = new Float32Array(width * 3);
  const result = new Uint8Array(height * width * 3);
  if (whole) {
    across.weights.fill(1);
    down.weights.fill(1);
  }
  let target = 0;
  let next = 0;
  eachRow(picture, part, (pixels, start, row) => {
    reduceRow(pixels, start, across, line);
    for (; next < down.from.length && down.from[next] === row; next++) {
      if (down.to[next] !== target) {
        write(sums, result, target * width * 3);
        sums.fill(0);
        target = down.to[next];
      }
      const weight = down.weights[next];
      for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(weight * line[i]);
    }
  });
  write(sums, result, target * width * 3);
  return result;

  function write(values, out, at) {
    const factor = Math.fround(1 / area);
    for (let i = 0; i < values.length; i++) {
      if (byTwo) out[at + i] = (values[i] + 2) >> 2;
      else out[at + i] = roundHalfToEven(whole ? Math.fround(values[i] * factor) : values[i]);
    }
  }
}

function reduceRow(pixels, start, { from, to, weights }, line) {
  line.fill(0);
  for (let i = 0; i < from.length; i++) {
    const at = start + from[i] * 4;
    const into = to[i] * 3;
    const weight = weights[i];
    line[into] += weight * pixels[at];
    line[into + 1] += weight * pixels[at + 1];
    line[into + 2] += weight * pixels[at + 2];
  }
}

/** Return which old pixel goes into which new one, and with what weight, in their order. */
function coverage(from, to) {
  const scale = from / to;
  const parts = [];
  for (let i = 0; i < to; i++) {
    const first = i * scale;
    const last = first + scale;
    const width = Math.min(scale, from - first);
    const inner = Math.min(Math.ceil(first), from - 1);
    const end = Math.max(Math.min(Math.floor(last), from - 1), inner);
    const add = (pixel, weight) => parts.push([pixel, i, weight]);
    // Slivers of less than a thousandth are left out, as OpenCV does.
    if (inner - first > 1e-3) add(inner - 1, (inner - first) / width);
    for (let pixel = inner; pixel < end; pixel++) add(pixel, 1 / width);
    if (last - end > 1e-3) add(end, Math.min(last - end, 1, width) / width);
  }
  return {
    from: Int32Array.from(parts, ([pixel]) => pixel),
    to: Int32Array.from(parts, ([, target]) => target),
    weights: Float32Array.from(parts, ([, , weight]) => weight),
  };
}

function copied(picture, part) {
  const result = new Uint8Array(part.rows * part.columns * 3);
  eachRow(picture, part, (pixels, start, row) => {
    let at = row * part.columns * 3;
    for (let i = start; i < start + part.columns * 4; i += 4) {
      result[at++] = pixels[i];
      result[at++] = pixels[i + 1];
      result[at++] = pixels[i + 2];
    }
  });
  return result;
}

/** Call `visit(pixels, start, row)` with RGBA bytes and the place where a row of the part starts. */
function eachRow(picture, part, visit) {
  const step = Math.max(1, Math.floor(ROWS_AT_ONCE / picture.width));
  for (let row = 0; row < part.rows; row += step) {
    const count = Math.min(step, part.rows - row);
    const pixels = picture.rows(part.top + row, count);
    for (let i = 0; i < count; i++) visit(pixels, (i * picture.width + part.left) * 4, row + i);
  }
}

/** Bilinear in OpenCV's fixed point of 11 bits: INTER_LINEAR. */
function grow(pixels, rows, columns, height, width) {
  const across = taps(columns, width);
  const down = taps(rows, height);
  const lines = new Map();
  const line = (row) => {
    if (!lines.has(row)) {
      if (lines.size > 2) lines.delete(lines.keys().next().value);
      lines.set(row, growRow(pixels, row * columns * 3, across));
    }
    return lines.get(row);
  };
  const result = new Uint8Array(height * width * 3);
  down.forEach(({ first, second, near, far }, row) => {
    const [above, below] = [line(first), line(second)];
    const at = row * width * 3;
    for (let i = 0; i < width * 3; i++) {
      const value = ((near * (above[i] >> 4)) >> 16) + ((far * (below[i] >> 4)) >> 16);
      result[at + i] = (value + 2) >> 2;
    }
  });
  return result;
}

function growRow(pixels, start, across) {
  const line = new Int32Array(across.length * 3);
  across.forEach(({ first, second, near, far }, column) => {
    for (let c = 0; c < 3; c++) {
      const [left, right] = [pixels[start + first * 3 + c], pixels[start + second * 3 + c]];
      line[column * 3 + c] = left * near + right * far;
    }
  });
  return line;
}

function taps(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const place = Math.fround((i + 0.5) * (from / to) - 0.5);
    let first = Math.floor(place);
    let share = Math.fround(place - first);
    if (first < 0) [first, share] = [0, 0];
    if (first >= from - 1) [first, share] = [from - 1, 0];
    const second = Math.min(first + 1, from - 1);
    const near = roundHalfToEven(Math.fround(1 - share) * 2048);
    return { first, second, near, far: roundHalfToEven(share * 2048) };
  });
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

/** Round as Python and OpenCV do. */
export function roundHalfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
