/** Where the files of a bundle lie: at an address, in one zip archive, or in memory. */

import { readEntries, readEntry } from "./archives.js";
import { BundleError, reasonOf } from "./errors.js";

// Graphs hardly shrink. An archive that grows to more than this many times its size, and to more
// than small texts could, is made to fill the memory.
const MOST_GROWTH = 10;
const ALWAYS_FINE = 64 * 2 ** 20;

/**
 * Return the files of a bundle: `place` for messages, and `read(name)`, which gives null where
 * there is no such file.
 *
 * @param source the address of a folder, or of an archive (.zip); a Blob, an ArrayBuffer or a
 *   Uint8Array with an archive; files by their names, as a Map or an object; or what this returns.
 * @throws {BundleError} it is an archive that cannot be read, or nothing of these.
 */
export async function bundleFiles(source) {
  if (source instanceof URL || typeof source === "string") return filesAt(String(source));
  if (source instanceof Blob) {
    const name = source.name ?? "the archive";
    return archiveFiles(await readBlob(source, name), name);
  }
  if (source instanceof ArrayBuffer) return archiveFiles(new Uint8Array(source), "the archive");
  if (ArrayBuffer.isView(source)) {
    const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    return archiveFiles(bytes, "the archive");
  }
  if (typeof source?.read === "function") return source;
  if (source !== null && typeof source === "object") {
    const files = source instanceof Map ? source : new Map(Object.entries(source));
    return { place: "the bundle", read: async (name) => files.get(name) ?? null };
  }
  throw new BundleError("no bundle was given; give its address, a .zip file or its bytes");
}

async function filesAt(address) {
  if (new URL(address, "http://-/").pathname.toLowerCase().endsWith(".zip")) {
    const bytes = await fetched(address);
    if (bytes === null) {
      throw new BundleError(`${address}: no such file; give what \`fic export\` wrote`);
    }
    return archiveFiles(bytes, address);
  }
  const [folder, query] = address.split("?");
  const place = folder.replace(/\/$/, "");
  const suffix = query === undefined ? "" : `?${query}`;
  return {
    place,
    read: (name) => fetched(`${place}/${encodeURIComponent(name)}${suffix}`),
  };
}

async function fetched(address) {
  try {
    const response = await fetch(address);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new BundleError(
      `${address}: cannot be read (${reasonOf(error)}); check the address and the connection`,
    );
  }
}

async function readBlob(blob, name) {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    throw new BundleError(`${name}: cannot be read (${reasonOf(error)}); choose it again`);
  }
}

function archiveFiles(bytes, place) {
  let entries;
  try {
    entries = readEntries(bytes);
  } catch (error) {
    throw unreadable(place, error);
  }
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  for (const name of byName.keys()) {
    if (/[/\\:\0]/.test(name)) {
      throw new BundleError(
        `${place}: holds ${JSON.stringify(name)}, which is in a folder; zip the files of the ` +
          "bundle themselves, not the folder around them",
      );
    }
  }
  if (byName.size < entries.length) {
    throw new BundleError(`${place}: holds two files of one name; export it again`);
  }
  const unpacked = entries.reduce((sum, entry) => sum + entry.size, 0);
  if (unpacked > Math.max(MOST_GROWTH * bytes.length, ALWAYS_FINE)) {
    throw new BundleError(
      `${place}: would grow from ${bytes.length} to ${unpacked} bytes, as no bundle does; ` +
        "export it again",
    );
  }
  return {
    place,
    archived: true,
    async read(name) {
      if (!byName.has(name)) return null;
      try {
        return await readEntry(bytes, byName.get(name));
      } catch (error) {
        throw unreadable(place, error);
      }
    },
  };
}

function unreadable(place, error) {
  const reason = reasonOf(error);
  return new BundleError(
    `${place}: is no zip archive that can be read (${reason}); copy the bundle again or export ` +
      "it again",
  );
}
