/** The model card: the Markdown that `fic export` writes, and no more of it than that. */

import { element } from "./dom.js";

/** Show a card in a place: headings, paragraphs, tables and code. */
export function showCard(place, markdown) {
  place.replaceChildren();
  const blocks = markdown.split(/\n{2,}|\n(?=```)/).filter((block) => block.trim());
  let code = null;
  for (const block of blocks) {
    if (code === null && block.startsWith("```")) code = [];
    if (code === null) {
      place.append(blockOf(block.trim()));
      continue;
    }
    code.push(block);
    const text = code.join("\n\n");
    if (/^```[^\n]*\n[\s\S]*\n?```\s*$/.test(text)) {
      const content = text.replace(/^```[^\n]*\n/, "").replace(/\n?```\s*$/, "");
      place.append(element("pre", {}, element("code", { textContent: content })));
      code = null;
    }
  }
}

function blockOf(block) {
  const heading = /^(#+)\s+(.*)$/.exec(block);
  if (heading) return element("h3", {}, ...inline(heading[2]));
  if (block.startsWith("|")) return tableOf(block.split("\n"));
  return element("p", {}, ...inline(block));
}

function tableOf(lines) {
  const cells = (line) =>
    line
      .replace(/^\|\s*|\s*\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replaceAll("\\|", "|"));
  const row = (line, name) =>
    element("tr", {}, ...cells(line).map((cell) => element(name, {}, ...inline(cell))));
  const [head, , ...body] = lines;
  const rows = body.map((line) => row(line, "td"));
  const top = cells(head).some(Boolean) ? [element("thead", {}, row(head, "th"))] : [];
  return element("table", {}, ...top, element("tbody", {}, ...rows));
}

function inline(text) {
  return text
    .split(/(`[^`]+`)/)
    .map((part) =>
      /^`.+`$/.test(part) ? element("code", { textContent: part.slice(1, -1) }) : part,
    );
}
