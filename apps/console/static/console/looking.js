// A page without a stream of its own: it is read again every few seconds, while somebody looks.

import { refresh } from "./live.js";

const AGAIN_MS = 3000;

async function again() {
  try {
    if (!document.hidden) await refresh();
  } catch (error) {
    console.warn(error);
  }
  setTimeout(again, AGAIN_MS);
}

setTimeout(again, AGAIN_MS);
