/** Small pieces of the page. */

export function byId(id) {
  return document.getElementById(id);
}

/** Return a new element with its properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const SHOWN = 6000; // milliseconds, of what needs no answer
let hiding = 0;

/** Say one sentence over the page; `good` where nothing went wrong, which goes by itself. */
export function notice(text, good = false) {
  clearTimeout(hiding);
  if (good) hiding = setTimeout(() => (byId("notice").hidden = true), SHOWN);
  const box = byId("notice");
  box.classList.toggle("good", good);
  box.querySelector("p").textContent = text;
  box.querySelector("button").onclick = () => (box.hidden = true);
  box.hidden = false;
}

export function counted(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

/** Return a probability for people: 98 %, 0.4 %; its blank does not break. */
export function percent(probability) {
  const share = probability * 100;
  if (share > 0 && share < 0.1) return "<0.1\u00a0%";
  return `${share >= 99.95 ? 100 : share.toFixed(share < 10 ? 1 : 0)}\u00a0%`;
}
