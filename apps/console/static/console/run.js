// The page of a run: how far it is, and what it says, as it happens.

import { calmly, follow } from "./follow.js";
import { refresh } from "./live.js";

const REFRESH_MS = 500;
// Pieces of the log that are kept in the page; a piece is 256 KiB at most, and mostly a line.
const MOST_PIECES = 5000;

const facts = () => document.getElementById("facts");
const isFinal = () => facts().hasAttribute("data-final");
const { run, attempt } = facts().dataset;

let phase = facts().dataset.phase;
const again = calmly(async () => {
  await refresh();
  // The log is that of another attempt now.
  if (facts().dataset.attempt !== attempt) { location.reload(); return; }
  if (facts().dataset.phase === phase) return;
  phase = facts().dataset.phase;
  document.getElementById("said").textContent = `The run is ${phase}.`;
}, REFRESH_MS);

follow(`/runs/${run}/stream`, { kinds: ["snapshot", "message"], open: again, told: again, closed: isFinal });

const log = document.getElementById("log");
const following = document.getElementById("following");
const begin = log.dataset.end;
let hasEnded = isFinal();
log.scrollTop = log.scrollHeight;

follow((last) => `/runs/${run}/logs?follow=true&attempt=${attempt}&after=${last || begin}`, {
  kinds: ["log", "end"],
  open: () => {},
  told: (event) => {
    if (event.type === "end") { hasEnded = true; following.textContent = ""; return; }
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    document.getElementById("log-empty").hidden = true;
    log.append(JSON.parse(event.data).text);
    while (log.childNodes.length > MOST_PIECES) log.firstChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  },
  closed: () => hasEnded,
  state: (now) => { following.textContent = now === "live" ? "following" : now; },
});
