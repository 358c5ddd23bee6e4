/** The answers as a table, with the columns of `fic-runtime predict --csv --top-k 3`. */

const TOP = 3;

/** Return CSV (RFC 4180) of the pictures in the gallery. */
export function table(pictures) {
  const scored = pictures.some(({ prediction }) => typeof prediction?.known === "boolean");
  const head = ["file", "label", "probability"];
  for (let place = 2; place <= TOP; place++) head.push(`label_${place}`, `probability_${place}`);
  if (scored) head.push("known", "ood_score");
  head.push("error");
  const rows = pictures.map(({ name, prediction, error }) => {
    const best = prediction?.top(TOP) ?? [];
    const cells = Array.from({ length: TOP }, (_, i) =>
      best[i] ? [best[i].label, best[i].probability.toFixed(6)] : ["", ""],
    );
    const scores =
      prediction && scored
        ? [prediction.known, Number(prediction.score?.toPrecision(6))]
        : ["", ""];
    return [name, ...cells.flat(), ...(scored ? scores : []), error ?? ""];
  });
  return [head, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
