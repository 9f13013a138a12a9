// Keeps a part of the page, and makes up one address of its own.
const KEPT = ["style.css", "more.css", "lib.js", "pixels.png"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open("kept").then((cache) => cache.addAll(KEPT)));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  if (new URL(event.request.url).pathname.endsWith("/made-up")) {
    event.respondWith(new Response("made up by the worker"));
  } else if (!event.request.headers.has("range")) {
    // The film's ranges are left to the browser: a player drops what it no longer needs.
    event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request)));
  }
});
