// The part of clients.py in Node.js: run a graph in onnxruntime-node or onnxruntime-web.
//
//     node client_engines.mjs PACKAGE FOLDER GRAPH PIXELS.npy ANSWERS.json OUTPUT ...
//
// FOLDER is where the package was installed. Pictures go through one at a time.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [name, folder, graph, pixels, answers, ...outputs] = process.argv.slice(2);
const ort = createRequire(path.join(path.resolve(folder), "package.json"))(name);
const { type, shape, values } = array(readFileSync(pixels));
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(graph)));
const each = shape.slice(1).reduce((product, size) => product * size, 1);
const rows = Object.fromEntries(outputs.map((output) => [output, []]));
for (let start = 0; start < values.length; start += each) {
    const picture = new ort.Tensor(type, values.slice(start, start + each), [1, ...shape.slice(1)]);
    const found = await session.run({ [session.inputNames[0]]: picture });
    for (const output of outputs) {
        rows[output].push(Array.from(found[output].data));
    }
}
writeFileSync(answers, JSON.stringify(rows));

/** Read an array that NumPy wrote: version 1 of its format, in the order of C. */
function array(file) {
    const start = 10 + file.readUInt16LE(8);
    const header = file.toString("latin1", 10, start);
    const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((size) => size.trim()).map(Number);
    const bytes = Uint8Array.from(file.subarray(start));
    return header.includes("'|u1'")
        ? { type: "uint8", shape, values: bytes }
        : { type: "float32", shape, values: new Float32Array(bytes.buffer) };
}
