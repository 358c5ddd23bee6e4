"""How accurate a class is that was taught on the device, by how many pictures it was taught with.

python benchmarks/teaching.py BUNDLE LABEL TEACHING_PICTURES... --validation FOLDER

BUNDLE was exported with --teachable from a run without LABEL; FOLDER has a folder for each class.
"""

import argparse
from pathlib import Path

import numpy as np

from fic_runtime.classifier import Classifier
from fic_runtime.errors import ImageError
from fic_runtime.images.picture_files import find_pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("label")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 20, 100])
    options = parser.parse_args()
    teaching = list(find_pictures(options.pictures))
    order = np.random.default_rng(0).permutation(len(teaching))
    folders = sorted(path for path in options.validation.iterdir() if path.is_dir())
    with Classifier(options.bundle, device="cpu") as classifier:
        rows, targets = [], []
        for folder in folders:
            for path in find_pictures([folder]):
                try:
                    rows.append(classifier.extract([path])[0])
                except ImageError as error:
                    print(f"left out: {error}")
                    continue
                targets.append(folder.name)
        bottlenecks = np.stack(rows)
        own = classifier.manifest.labels
        for count in options.counts:
            if options.label not in own and options.label in classifier.labels:
                classifier.forget(options.label)
            classifier.teach(options.label, [teaching[index] for index in order[:count]])
            answers = classifier.probabilities(bottlenecks)
            index = np.array([classifier.labels.index(label) for label in targets])
            right = answers.argmax(axis=1) == index
            likelihood = np.log(answers[np.arange(len(index)), index]).mean()
            off = answers.max(axis=1).mean() - right.mean()
            print(
                f"{min(count, len(teaching)):>4} pictures: accuracy {right.mean():.3f}, cross "
                f"entropy {-likelihood:.3f}, mean confidence less accuracy {off:+.3f}"
            )


if __name__ == "__main__":
    main()
