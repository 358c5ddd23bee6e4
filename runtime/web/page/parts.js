/** The engine and the bundle: within the page, or in files beside it. */

import { byId } from "./dom.js";

/** Return `bundle`, and `engine()`, which gives options of `Classifier.open` for one classifier. */
export async function engineParts() {
  const { bundle, worker, wasm } = document.body.dataset;
  if (bundle) return { bundle, engine: () => ({ worker: new Worker(worker), wasm }) };
  const script = new Blob([await unpacked("worker")], { type: "text/javascript" });
  const address = URL.createObjectURL(script);
  const content = await unpacked("wasm");
  const engine = () => ({ worker: new Worker(address), wasm: content });
  return { bundle: held("bundle"), engine };
}

function held(id) {
  const block = byId(id);
  const text = block.textContent.trim();
  block.remove(); // the text takes more memory than what it stands for
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function unpacked(id) {
  const stream = new Blob([held(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
