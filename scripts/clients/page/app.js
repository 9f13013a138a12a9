// What with_chromium.py asks the page; each gives what it found.
import { answer } from "./lib.js";

async function scripts() {
  const later = await import("./later.js");
  return { answer, later: later.later, classic: window.classic };
}

function styles() {
  const of = (name) => getComputedStyle(document.querySelector(name));
  return { color: of("h1").color, background: of("body").backgroundColor };
}

async function images() {
  const all = [...document.images];
  await Promise.all(all.map((image) => image.decode()));
  return all.map((image) => image.naturalWidth > 0);
}

async function font() {
  await document.fonts.ready;
  return [...document.fonts].map((face) => face.status);
}

// The colour of the middle of the picture at `seconds`.
async function film(seconds) {
  const video = document.querySelector("video");
  const sought = new Promise((resolve, reject) => {
    video.addEventListener("seeked", resolve, { once: true });
    video.addEventListener("error", () => reject(video.error), { once: true });
  });
  video.currentTime = seconds;
  await sought;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const [red, , blue] = context.getImageData(160, 90, 1, 1).data;
  return red > blue ? "red" : "blue";
}

async function worker() {
  const registration = await navigator.serviceWorker.register("worker.js");
  const controlled = new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
  });
  if (!navigator.serviceWorker.controller) await controlled;
  const made = await (await fetch("made-up")).text();
  const kept = await caches.match(new URL("style.css", location));
  await registration.update();
  return { made, kept: await kept?.text() };
}

async function elsewhere(url) {
  const response = await fetch(url, { headers: { "x-asked-by": location.origin } });
  return response.json();
}

window.ask = { scripts, styles, images, font, film, worker, elsewhere };
