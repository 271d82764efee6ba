// The records of a topic as they come: its feed is read from where the page stands, as any client reads it.

import { refresh } from "./live.js";

// What is in the page, however much is written.
const MOST_ROWS = 200;
const DRAW_MS = 250;
// How long the feed is asked to wait for news, and how long we wait after it has failed.
const WAIT_SECONDS = 25;
const AGAIN_MS = 3000;
const MOST_RECORDS = 500;
const MOST_BYTES = 4 * 1024 * 1024;
// Whoever is further behind than that goes on at the end: nobody reads what passes so fast.
const FAR = 5000;
const MOST_TEXT = 400;
// More rows than that at once needn't light up.
const FEW = 10;

const root = document.getElementById("records");
const box = document.getElementById("tail");
const rows = box.querySelector("tbody");
const blank = document.getElementById("row");
const hold = document.getElementById("hold");
const following = document.getElementById("following");
const empty = document.getElementById("records-empty");
const facts = () => document.getElementById("facts").dataset;

let after = Number(root.dataset.after);
// What has come and isn't drawn, oldest first; and the seqs that were dropped before it.
let waiting = [];
let passed = null;
let isLive = false;
let drawing = 0;
let asking = null;

// Numbers keep their spelling where the browser can: a double would round some.
const reviver = JSON.rawJSON && ((_, value, context) => (
  typeof value === "number" && String(value) !== context.source ? JSON.rawJSON(context.source) : value
));

async function follow() {
  if (asking || document.hidden) return;
  const here = asking = new AbortController();
  while (asking === here) {
    try {
      skip();
      const page = await read(here.signal);
      if (!isLive) { isLive = true; say(); }
      take(page);
      if (!page.has_more) await pause(DRAW_MS);
    } catch (error) {
      if (here.signal.aborted) return;
      console.warn(error);
      isLive = false;
      say();
      await pause(AGAIN_MS);
    }
  }
}

function stop() {
  asking?.abort();
  asking = null;
  isLive = false;
}

async function read(signal) {
  const limit = Math.max(1, Math.min(MOST_RECORDS, Math.floor(MOST_BYTES / Math.max(1, facts().largest))));
  // The first answer comes at once, to say that we follow.
  const query = new URLSearchParams({ topic: root.dataset.topic, after, limit, wait: isLive ? WAIT_SECONDS : 0 });
  const answer = await fetch(`/events?${query}`, { headers: { Accept: "application/json" }, signal });
  // The session has ended: the page as a whole leads to the login, and back.
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`${answer.status} for the feed`);
  return JSON.parse(await answer.text(), reviver);
}

function skip() {
  const to = Number(facts().head) - MOST_ROWS;
  if (to - after < FAR) return;
  pass(after + 1, to);
  after = to;
}

function take({ events, gap, next_cursor: next }) {
  if (gap) waiting.push({ gap });
  waiting.push(...events);
  after = Number(next);
  for (const one of waiting.splice(0, waiting.length - MOST_ROWS)) {
    if (one.gap) pass(Number(one.gap.from), Number(one.gap.to));
    else pass(Number(one.cursor), Number(one.cursor));
  }
  draw();
}

function pass(from, to) {
  // A topic that was made anew begins again.
  passed = { from: Math.min(passed?.from ?? from, from), to: Math.max(passed?.to ?? to, to) };
}

// Whoever reads, has scrolled away from the newest or marks something keeps his place.
function isHeld() {
  const marked = getSelection();
  return hold.getAttribute("aria-pressed") === "true" || box.scrollTop > 4
    || (!marked.isCollapsed && box.contains(marked.anchorNode));
}

function draw() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    if (!isHeld()) put();
    say();
  }, DRAW_MS);
}

function put() {
  const isFew = waiting.length <= FEW;
  const fresh = waiting.reverse().map((one) => {
    const row = one.gap ? note(`seq ${one.gap.from} to ${one.gap.to} are gone: ${one.gap.reason}`) : rowOf(one);
    if (isFew) row.classList.add("fresh");
    return row;
  });
  if (passed) fresh.push(note(`seq ${passed.from} to ${passed.to} passed by unseen`));
  waiting = [];
  passed = null;
  if (fresh.length) empty.hidden = true;
  rows.prepend(...fresh);
  while (rows.childElementCount > MOST_ROWS) rows.lastElementChild.remove();
}

function say() {
  const count = passed ? after - passed.from + 1 : waiting.length;
  const held = isHeld() ? `paused${count ? `, ${count} new` : ""}` : "following";
  following.textContent = isLive ? held : "connecting";
}

function rowOf({ cursor, t, payload, type, ...rest }) {
  const row = blank.content.firstElementChild.cloneNode(true);
  const isMessage = type === "MESSAGE" && rest.run_id === null;
  const written = t.slice(0, 23).replace("T", " ");
  const cells = isMessage
    ? [cursor, written, payload.tag ?? "", payload.node ?? "", JSON.stringify(payload.data)]
    : [cursor, written, `run/${rest.run_id}`, "", JSON.stringify({ type, ...rest, payload })];
  [...row.cells].forEach((cell, n) => {
    cell.textContent = cells[n].length > MOST_TEXT ? `${cells[n].slice(0, MOST_TEXT - 1)}…` : cells[n];
  });
  return row;
}

function note(text) {
  const row = document.createElement("tr");
  const cell = row.insertCell();
  cell.colSpan = 5;
  cell.className = "quiet";
  cell.textContent = text;
  return row;
}

function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

hold.hidden = false;
hold.addEventListener("click", () => {
  const isPaused = hold.getAttribute("aria-pressed") !== "true";
  hold.setAttribute("aria-pressed", isPaused);
  if (!isPaused) box.scrollTop = 0;
  draw();
});
box.addEventListener("scroll", draw, { passive: true });
document.addEventListener("selectionchange", () => { if (waiting.length) draw(); });
document.addEventListener("visibilitychange", async () => {
  if (document.hidden) { stop(); return; }
  // Where the topic stands by now.
  await refresh().catch((error) => console.warn(error));
  follow();
});
window.addEventListener("pagehide", stop);
window.addEventListener("pageshow", follow);
follow();
