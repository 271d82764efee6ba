// Parts of a page that change: the page is read again, and of it the parts with `data-live` are put in their places.

const TOKEN = "input[name=csrfmiddlewaretoken]";

export async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  // The session has ended: the page as a whole leads to the login, and back.
  if (answer.redirected) { location.reload(); return; }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.getElementById(old.id);
    if (!part || isInUse(old) || isSame(part, old)) continue;
    const places = [...old.querySelectorAll(".gz-scroll")].map((one) => one.scrollLeft);
    old.replaceWith(part);
    part.querySelectorAll(".gz-scroll").forEach((one, n) => { one.scrollLeft = places[n] ?? 0; });
  }
  document.dispatchEvent(new Event("refreshed"));
}

// Tokens of forms are other ones each time: they are renewed, and the buttons beside them stay. So one is pressed even where
// a press gives it no focus.
function isSame(part, other) {
  const fresh = part.querySelectorAll(TOKEN);
  const own = other.querySelectorAll(TOKEN);
  if (fresh.length !== own.length) return false;
  own.forEach((one, n) => { one.value = fresh[n].value; });
  return part.innerHTML === other.innerHTML;
}

// Nobody loses what they are typing, or the button they are about to press.
function isInUse(part) {
  return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
}
