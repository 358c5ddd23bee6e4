/** Where a label is seen, drawn over a picture. */

// OpenCV's COLORMAP_TURBO at every sixteenth of its range.
const TURBO = [
  [48, 18, 59],
  [64, 64, 162],
  [70, 107, 227],
  [66, 148, 255],
  [40, 188, 235],
  [24, 221, 194],
  [50, 242, 152],
  [109, 254, 98],
  [164, 252, 60],
  [203, 237, 52],
  [236, 209, 58],
  [253, 174, 53],
  [251, 129, 34],
  [236, 83, 15],
  [210, 49, 5],
  [172, 23, 1],
  [122, 4, 3],
];
const OPACITY = 0.6;

/**
 * Draw an explanation on a canvas, over what is there: the redder, the more a place speaks for the
 * label. Each pixel is laid over the picture by its own strength; what does not speak for the
 * label stays as it is.
 *
 * @param {CanvasRenderingContext2D} context of a canvas that shows the whole picture, upright.
 * @param explanation of `Classifier.explain`.
 */
export function drawHeat(context, explanation, { opacity = OPACITY } = {}) {
  const { width, height } = context.canvas;
  const { heat, rows, columns, seen, filled } = explanation;
  const across = tapsOf(width, columns, seen.left, seen.width, filled.left, filled.width);
  const down = tapsOf(height, rows, seen.top, seen.height, filled.top, filled.height);
  const hottest = Math.max(...heat, 0) || 1;
  const overlay = new ImageData(width, height);
  down.forEach((row, y) => {
    across.forEach((column, x) => {
      if (!row || !column) return; // the base did not look there
      const value =
        row.near *
          (column.near * heat[row.first * columns + column.first] +
            column.far * heat[row.first * columns + column.second]) +
        row.far *
          (column.near * heat[row.second * columns + column.first] +
            column.far * heat[row.second * columns + column.second]);
      const strength = Math.min(Math.max(value / hottest, 0), 1);
      overlay.data.set(
        [...turbo(strength), Math.round(opacity * strength * 255)],
        (y * width + x) * 4,
      );
    });
  });
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(overlay, 0, 0);
  context.drawImage(layer, 0, 0);
}

/** For each pixel of an axis the two places of the map beside it, or null outside of what is seen. */
function tapsOf(length, places, seenStart, seenSize, filledStart, filledSize) {
  return Array.from({ length }, (_, pixel) => {
    const share = ((pixel + 0.5) / length - seenStart) / seenSize;
    if (share < 0 || share > 1) return null;
    const at = (filledStart + share * filledSize) * places - 0.5;
    const clamped = Math.min(Math.max(at, 0), places - 1);
    const first = Math.floor(clamped);
    const far = clamped - first;
    return { first, second: Math.min(first + 1, places - 1), near: 1 - far, far };
  });
}

function turbo(strength) {
  const at = strength * (TURBO.length - 1);
  const first = Math.min(Math.floor(at), TURBO.length - 2);
  const share = at - first;
  return TURBO[first].map((value, c) => value + share * (TURBO[first + 1][c] - value));
}
