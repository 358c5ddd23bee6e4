/** The page of `fic-runtime html`: pictures in, answers out, all of it on this device. */

import { Classifier, HeadOnlyError } from "../src/index.js";

import { startCamera } from "./camera.js";
import { showCard } from "./model_card.js";
import { engineParts } from "./parts.js";
import { CardOfPicture } from "./picture.js";
import { table } from "./csv.js";
import { byId, counted, notice } from "./dom.js";

const state = {
  parts: null,
  /** @type {Promise<Classifier>} that of the moment; it rejects where it could not be opened. */
  classifier: null,
  pictures: [],
  hint: "",
};

const ARCHIVES = new Set(["application/zip", "application/x-zip-compressed"]);

start();

function start() {
  const ready = open((parts) => Classifier.open(parts.bundle, parts.engine()));
  state.classifier = ready;
  ready.catch((error) => {
    byId("status").classList.add("wrong");
    byId("status").textContent = sentence(error);
  });
  listen();
}

async function open(how) {
  const started = performance.now();
  state.parts ??= engineParts();
  const classifier = await how(await state.parts);
  const seconds = (performance.now() - started) / 1000;
  byId("status").classList.remove("wrong");
  byId("status").textContent =
    `Ready after ${seconds.toFixed(1)} s: tells ${counted(classifier.labels.length, "class", "classes")} apart.`;
  document.body.dataset.labels = classifier.labels.length;
  byId("self-test").disabled = false;
  byId("self-test-result").textContent = "";
  showCard(byId("card"), classifier.card);
  state.hint = classifier.explainable ? "Choose a label to see where it is seen." : "";
  count();
  return classifier;
}

function listen() {
  const files = byId("files");
  byId("choose").addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    take([...files.files]);
    files.value = ""; // or the same file could not be chosen again
  });
  listenToDrops();
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (pasted.length) {
      event.preventDefault();
      take(pasted);
    } else notice("What was pasted holds no picture; copy a picture, or choose a file.");
  });
  byId("camera-start").addEventListener("click", async () => {
    byId("camera-start").disabled = true;
    await startCamera(state, addPicture);
    byId("camera-start").disabled = false;
  });
  byId("csv").addEventListener("click", copyTable);
  byId("clear").addEventListener("click", () => {
    for (const picture of [...state.pictures]) picture.remove();
    byId("choose").focus();
  });
  byId("self-test").addEventListener("click", selfTest);
}

function listenToDrops() {
  let inside = 0; // elements that the pointer is in, one within the other
  const dragging = (change) => {
    inside = Math.max(0, inside + change);
    document.body.classList.toggle("dragging", inside > 0);
  };
  addEventListener("dragenter", () => dragging(1));
  addEventListener("dragleave", () => dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-inside);
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped.length) take(dropped);
    else
      notice("What was dropped holds no picture file; save the picture first, and drop its file.");
  });
}

function take(files) {
  const isArchive = (file) => ARCHIVES.has(file.type) || /\.zip$/i.test(file.name);
  for (const archive of files.filter(isArchive)) swap(archive);
  const pictures = files.filter((file) => !isArchive(file));
  const cards = pictures.map((file) => addPicture(file, file.name));
  cards[0]?.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function addPicture(blob, name) {
  const card = new CardOfPicture(blob, name, {
    onRemove: () => {
      state.pictures.splice(state.pictures.indexOf(card), 1);
      count();
    },
    onAnswer: (said) => {
      byId("announcer").textContent = said;
      count();
    },
  });
  state.pictures.push(card);
  byId("gallery").append(card.element);
  count();
  card.classify(state.classifier);
  return card;
}

function count() {
  const { length } = state.pictures;
  const unknown = state.pictures.filter(({ prediction }) => prediction?.known === false).length;
  byId("count").textContent = length ? `${length}${unknown ? `, ${unknown} unknown` : ""}` : "";
  byId("hint").textContent = length ? state.hint : "No pictures yet.";
  byId("csv").disabled = byId("clear").disabled = length === 0;
}

/** Go on with another bundle, or with another head for the bundle of this page. */
async function swap(archive) {
  const earlier = state.classifier;
  try {
    const opened = await open(async (parts) => {
      try {
        return await Classifier.open(archive, parts.engine());
      } catch (error) {
        if (!(error instanceof HeadOnlyError)) throw error;
        return Classifier.open(parts.bundle, { ...parts.engine(), head: archive });
      }
    });
    state.classifier = Promise.resolve(opened);
    for (const picture of state.pictures) picture.settle();
    const title = questionOf(opened.labels);
    byId("title").textContent = document.title = title;
    notice(`${archive.name} answers from now on; pictures that are here keep their answers.`, true);
    earlier.then(
      (classifier) => classifier.close(),
      () => {},
    );
  } catch (error) {
    notice(sentence(error));
  }
}

/** The same as the title that the page was written with. */
function questionOf(labels) {
  if (labels.length > 6) return `Which of ${labels.length} classes?`;
  return labels.length > 1
    ? `${labels.slice(0, -1).join(", ")} or ${labels.at(-1)}?`
    : `${labels[0]}?`;
}

async function copyTable() {
  const text = table(state.pictures);
  const rows = counted(state.pictures.length, "row", "rows");
  try {
    await navigator.clipboard.writeText(text);
    notice(`${rows} copied; paste them into a table.`, true);
  } catch {
    if (copyBySelection(text)) notice(`${rows} copied; paste them into a table.`, true);
    else notice("The browser does not let this page copy; allow the clipboard for it.");
  }
}

/** For pages that have no clipboard of their own, such as those without https. */
function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

async function selfTest() {
  const result = byId("self-test-result");
  byId("self-test").disabled = true;
  result.textContent = "Running the recorded pictures…";
  try {
    const found = await (await state.classifier).selfTest();
    const difference = found.probabilities.toExponential(1);
    result.textContent = found.passed
      ? `Passed: ${found.pictures} recorded pictures, largest difference of a probability ${difference}.`
      : `Failed: a probability differs by ${difference}, pixels by ${found.pixels} levels; use another browser.`;
  } catch (error) {
    result.textContent = sentence(error);
  }
  byId("self-test").disabled = false;
}

function sentence(error) {
  const { message } = error;
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
