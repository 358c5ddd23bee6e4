"""Label a video or a camera with a bundle; needs fic-runtime only.

    python examples/label_video.py BUNDLE video.mp4 labelled.mp4
    python examples/label_video.py BUNDLE 0                    # the first camera, until Ctrl-C

Prints a line whenever the label changes. With a third argument, writes the video with the label on
each frame; OpenCV's headless build has no windows to show it in.
"""

import sys
from contextlib import suppress

import cv2

from fic_runtime import Classifier


def main(bundle: str, source: str, out: str | None = None) -> None:
    """Classify frame by frame."""
    video = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not video.isOpened():
        sys.exit(f"{source}: cannot be opened; give a video file or the number of a camera")
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    writer, last = None, None
    # OpenCV's frames are BGR.
    with Classifier(bundle, channel_order="bgr") as classifier, suppress(KeyboardInterrupt):
        number = 0
        while True:
            there, frame = video.read()
            if not there:
                break
            prediction = classifier.predict(frame)
            if prediction.label != last:
                last = prediction.label
                print(f"{number / rate:8.2f} s  {last} {prediction.probability:.3f}", flush=True)
            if out is not None:
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(out, codec, rate, size)
                text = f"{prediction.label} {prediction.probability:.0%}"
                cv2.rectangle(frame, (0, 0), (frame.shape[1], 34), (0, 0, 0), -1)
                cv2.putText(frame, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,) * 3, 2)
                writer.write(frame)
            number += 1
    if writer is not None:
        writer.release()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
