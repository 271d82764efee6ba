// Following an event stream: while the page is looked at, and again when the browser has given up.

const AGAIN_MS = 3000;

// `open(isResumed)` is called when a stream begins: unless it is resumed after an event, what came before has to be
// read anew. `url` may be a function of the last id, for streams that begin where they are asked to. `told(event)` is called for each event of `kinds`. `closed()` says whether there is anything left to follow.
export function follow(url, { kinds, open, told, closed, state = () => {} }) {
  let source = null;
  let timer = 0;
  let hasId = false;
  let last = "";

  function start() {
    if (source || document.hidden || closed()) return;
    hasId = false;
    source = new EventSource(typeof url === "function" ? url(last) : url);
    source.onopen = () => { state("live"); open(hasId); };
    source.onerror = () => {
      if (closed()) { stop(); open(false); state(""); return; }
      state("connecting");
      // What isn't tried again by the browser is by us: it was refused, or answered with an error.
      if (source.readyState === EventSource.CLOSED) { stop(); timer = setTimeout(start, AGAIN_MS); }
    };
    for (const kind of kinds) {
      source.addEventListener(kind, (event) => {
        if (event.lastEventId) { hasId = true; last = event.lastEventId; }
        told(event);
      });
    }
  }

  function stop() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  // A browser has six connections to a host: pages in the background leave them to others.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", start);
  start();
}

// Calls `work` soon, and not again before it has ended and some time has passed; never misses the last call.
export function calmly(work, pauseMs) {
  let isBusy = false;
  let isWanted = false;
  return async function call() {
    if (isBusy) { isWanted = true; return; }
    isBusy = true;
    do {
      isWanted = false;
      try { await work(); } catch (error) { console.warn(error); }
      await new Promise((done) => setTimeout(done, pauseMs));
    } while (isWanted);
    isBusy = false;
  };
}
