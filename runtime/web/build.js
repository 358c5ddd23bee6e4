/** Bundle the package for pages without a bundler, and the page of `fic-runtime html`, into dist/. */

import { copyFile, mkdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (place) => fileURLToPath(new URL(place, import.meta.url));
const require = createRequire(import.meta.url);
const WASM = "ort-wasm-simd-threaded.wasm";

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist"));
const shared = { bundle: true, format: "esm", target: "es2022", minify: true, logLevel: "warning" };
// Without the licence comments of what is bundled a copy would not be allowed.
const options = { ...shared, legalComments: "inline", outdir: here("dist") };
await build({ ...options, entryPoints: { "fic-runtime-web": here("src/index.js") } });
// A classic script: of a page that was opened from disk Chromium starts no module as a worker.
await build({
  ...options,
  format: "iife",
  entryPoints: [here("src/worker.js")],
  external: ["module", "worker_threads"],
  define: { "import.meta.url": "self.location.href" },
});
await build({ ...options, entryPoints: [here("page/page.js"), here("page/page.css")] });
await copyFile(here("page/page.html"), here("dist/page.html"));
await copyFile(require.resolve(`onnxruntime-web/${WASM}`), here(`dist/${WASM}`));
