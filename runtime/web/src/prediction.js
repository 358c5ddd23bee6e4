/** What the classifier says of one picture; see index.d.ts. */
export class Prediction {
  #labels;

  constructor(answer, labels) {
    Object.assign(this, answer);
    this.#labels = labels;
    Object.freeze(this);
  }

  top(k = 5) {
    if (!Number.isInteger(k) || k < 1) throw new RangeError(`k is at least 1; received ${k}`);
    return Array.from(this.probabilities, (probability, index) => ({
      label: this.#labels[index],
      index,
      probability,
    }))
      .sort((one, other) => other.probability - one.probability || one.index - other.index)
      .slice(0, k);
  }
}
