/** One picture of the gallery with its answer. */

import { drawHeat } from "../src/heat.js";

import { element, percent } from "./dom.js";

const BARS = 5;

/** How many bars a card has, which is known before the bundle is open. */
function barCount() {
  return Math.min(BARS, Number(document.body.dataset.labels) || BARS);
}

export class CardOfPicture {
  prediction = null;
  error = null;
  #blob;
  #canvas = element("canvas", { width: 4, height: 3 });
  #answer = element("div", { className: "answer" });
  #thumbnail = null;

  constructor(blob, name, { onRemove, onAnswer }) {
    this.name = name;
    this.#blob = blob;
    this.onRemove = onRemove;
    this.onAnswer = onAnswer;
    this.#canvas.setAttribute("role", "img");
    this.#canvas.setAttribute("aria-label", name);
    const remove = element("button", { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => {
      const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
      this.remove();
      (next?.querySelector(".remove") ?? document.getElementById("choose")).focus();
    });
    const frame = element("div", { className: "frame" }, this.#canvas);
    this.element = element("li", { className: "picture waiting" }, frame, this.#answer, remove);
    this.#fill("Looking…", "", emptyBars());
  }

  remove() {
    this.element.remove();
    this.onRemove();
  }

  /** Offer no more heat: the classifier that answered is gone. */
  settle() {
    for (const row of this.#answer.querySelectorAll("button.row")) row.disabled = true;
  }

  /** Ask a classifier, once it is open, and show what it says or why it says nothing. */
  async classify(opening) {
    try {
      const classifier = await opening;
      this.prediction = await classifier.predict(this.#blob);
      const bars = barsOf(this.prediction, classifier.explainable, (label) =>
        this.#showHeat(classifier, label),
      );
      const { title, why, className } = verdict(this.prediction);
      this.element.className = `picture ${className}`;
      this.#fill(title, why, bars);
      await this.#draw(classifier);
      this.onAnswer(`${this.name}: ${title.textContent}. ${why}`);
    } catch (error) {
      this.error = error.message;
      this.element.className = "picture failed";
      this.#fill("No answer", `${error.message}.`, element("ul"));
      this.onAnswer(`${this.name}: no answer. ${error.message}.`);
    }
  }

  #fill(title, why, bars) {
    this.#answer.replaceChildren(
      element(
        "div",
        { className: "said" },
        element("p", { className: "file", textContent: this.name, title: this.name }),
        element("p", { className: "verdict" }, title),
        element("p", { className: "why", textContent: why }),
      ),
      bars,
    );
  }

  async #draw(classifier) {
    this.#thumbnail ??= await classifier.thumbnail(this.#blob);
    const { width, height } = this.#thumbnail;
    Object.assign(this.#canvas, { width, height });
    this.#canvas.getContext("2d").drawImage(this.#thumbnail, 0, 0);
  }

  /** Lay the heat of a label over the picture; of the one that is shown already, take it away. */
  async #showHeat(classifier, label) {
    const rows = [...this.#answer.querySelectorAll("button.row")];
    const pressed = rows.find((row) => row.dataset.label === label);
    const show = pressed.getAttribute("aria-pressed") !== "true";
    for (const row of rows) row.setAttribute("aria-pressed", String(show && row === pressed));
    const why = this.#answer.querySelector(".why");
    try {
      const explanation = show ? await classifier.explain(this.#blob, label) : null;
      await this.#draw(classifier);
      if (explanation) drawHeat(this.#canvas.getContext("2d"), explanation);
      const seen = explanation ? `${this.name}, with where ${label} is seen` : this.name;
      this.#canvas.setAttribute("aria-label", seen);
    } catch (error) {
      pressed.setAttribute("aria-pressed", "false");
      why.textContent = `${error.message}.`;
    }
  }
}

/** Return what is said of a picture: its title, a sentence, and the class of its card. */
export function verdict({ label, probability, known }) {
  const share = percent(probability);
  if (known === false) {
    return {
      title: element("span", {}, "Unknown", element("small", {}, ` nearest: ${label} ${share}`)),
      why: "Not like the pictures that it learned from.",
      className: "doubt",
    };
  }
  return {
    title: element("span", {}, label, element("small", {}, ` ${share}`)),
    why: known ? "Like the pictures that it learned from." : "",
    className: "known",
  };
}

/** Return the bars of the best labels; each is a button where `onChoice` can show its heat. */
export function barsOf(prediction, explainable = false, onChoice = null) {
  const rows = prediction.top(BARS).map(({ label, probability }) => {
    const fill = element("span", { className: "fill" });
    fill.style.width = `${(probability * 100).toFixed(2)}%`;
    const row = element(
      explainable ? "button" : "div",
      { className: "row", title: label },
      element("span", { className: "label", textContent: label }),
      element("span", { className: "share", textContent: percent(probability) }),
      element("span", { className: "track" }, fill),
    );
    row.dataset.label = label;
    if (explainable) {
      row.type = "button";
      row.setAttribute("aria-pressed", "false");
      row.addEventListener("click", () => onChoice(label));
    }
    return element("li", {}, row);
  });
  return element("ul", { className: "bars", ariaLabel: "Probabilities" }, ...rows);
}

/** As high as bars, so that nothing moves when they come. */
export function emptyBars() {
  const rows = Array.from({ length: barCount() }, () =>
    element(
      "li",
      {},
      element("div", { className: "row" }, element("span", { className: "track" })),
    ),
  );
  return element("ul", { className: "bars", ariaHidden: "true" }, ...rows);
}
