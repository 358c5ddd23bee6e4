/** The camera: answers while it runs, and pictures that are kept. */

import { barsOf, emptyBars, verdict } from "./picture.js";
import { byId, element, notice } from "./dom.js";

const REFUSED = {
  NotAllowedError:
    "The camera may not be used: allow it for this page, or choose pictures instead.",
  NotFoundError: "No camera was found here; connect one, or choose pictures instead.",
  NotReadableError: "The camera is used by another program; close it, or choose pictures instead.",
};
const PAUSE = 150; // milliseconds between answers, so that the device stays cool

/** Show the camera, and answer until it is stopped; never throws. */
export async function startCamera(state, addPicture) {
  let stream;
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "NotAllowedError");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    notice(REFUSED[error.name] ?? `The camera cannot be used (${error.message || error.name}).`);
    return;
  }
  const panel = byId("camera");
  const video = panel.querySelector("video");
  const frame = () => frameOf(video);
  byId("notice").hidden = true;
  video.srcObject = stream;
  panel.hidden = false;
  byId("camera-take").onclick = async () => {
    const time = new Date().toLocaleTimeString([], { hour12: false });
    const kept = await frame();
    if (kept) addPicture(kept, `camera ${time}`).element.scrollIntoView({ block: "nearest" });
  };
  const stopped = new Promise((resolve) => {
    byId("camera-stop").onclick = resolve;
    stream.getVideoTracks()[0].addEventListener("ended", resolve);
  });
  let running = true;
  stopped.then(() => (running = false));
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  answerWhile(() => running, state, video);
  await stopped;
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  panel.hidden = true;
  byId("camera-start").focus();
}

async function answerWhile(running, state, video) {
  const panel = byId("camera").querySelector(".answer");
  const title = panel.querySelector(".verdict");
  title.textContent = "Looking…";
  panel.querySelector(".bars").replaceChildren(...emptyBars().children);
  while (running()) {
    try {
      if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) {
        const classifier = await state.classifier;
        const prediction = await classifier.predict(video);
        if (!running()) return;
        const said = verdict(prediction);
        panel.className = `answer ${said.className}`;
        title.replaceChildren(said.title);
        panel.querySelector(".bars").replaceChildren(...barsOf(prediction).children);
      }
    } catch (error) {
      if (!running()) return;
      title.replaceChildren(element("small", { textContent: `${error.message}.` }));
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

/** Return what the camera shows as a PNG file, without loss; null before its first frame. */
async function frameOf(video) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve));
}
