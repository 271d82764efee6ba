// The page of an execution: how far it is, and what it stores, as it happens.

import { calmly, follow } from "./follow.js";
import { refresh } from "./live.js";
import { Tree } from "./tree.js";

const REFRESH_MS = 700;
// How many objects there are: less urgent than the objects themselves.
const COUNT_MS = 2500;
// A bar that grows, should nothing else happen.
const GROW_MS = 5000;
const KINDS = ["initiated", "processing", "completed", "failed", "cancelled", "skipped", "pending", "running", "interrupted"];

const facts = () => document.getElementById("facts");
const id = facts().dataset.execution;
const isFinal = () => facts().hasAttribute("data-final");

let phase = facts().dataset.phase;
const again = calmly(async () => {
  await refresh();
  if (facts().dataset.phase === phase) return;
  phase = facts().dataset.phase;
  document.getElementById("said").textContent = `The execution is ${phase}.`;
}, REFRESH_MS);

follow(`/api/v1/executions/${id}/events?timeout=3600`, { kinds: KINDS, open: again, told: again, closed: isFinal });
setInterval(() => { if (!isFinal() && !document.hidden) again(); }, GROW_MS);

let counting = 0;
function count() {
  counting ||= setTimeout(() => { counting = 0; again(); }, COUNT_MS);
}

const root = document.getElementById("tree");
if (root) {
  const pane = document.getElementById("pane");
  const following = document.getElementById("following");
  let asked = 0;
  let told = 0;
  const tree = new Tree(root, async (url, isAsked = false) => {
    const turn = ++asked;
    const answer = await fetch(`${url}&pane`).catch(() => null);
    if (answer?.redirected) { location.href = url; return; }
    const text = await answer?.text().catch(() => "");
    // What was asked for later has been answered sooner.
    if (turn < told) return;
    told = turn;
    const part = new DOMParser().parseFromString(text ?? "", "text/html");
    const shown = answer?.ok ? part.body : part.querySelector("main");
    pane.replaceChildren(...(shown?.childNodes ?? ["There is no answer now. Choose it again in a moment."]));
    pane.setAttribute("aria-label", `Preview of ${new URL(url, location.href).searchParams.get("object")}`);
    if (isAsked) pane.focus({ preventScroll: matchMedia("(min-width: 64rem)").matches });
  });
  const reload = calmly(() => tree.reload(), 0);
  const query = new URLSearchParams({ execution_id: id, timeout: 3600, deletions: true });
  reload();
  follow(`/api/v1/storage/events?${query}`, {
    kinds: ["storage.object.created", "storage.object.deleted"],
    open: (isResumed) => { if (!isResumed) reload(); },
    told: (event) => {
      const one = JSON.parse(event.data);
      if (event.type === "storage.object.deleted") tree.deleted(one);
      else tree.written(one);
      count();
    },
    closed: isFinal,
    state: (now) => { following.textContent = now === "live" ? "following" : now; },
  });
}
