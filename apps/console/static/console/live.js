// Parts of a page that change: the page is read again, and of it the parts with `data-live` are put in their places.

export async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  // The session has ended: the page as a whole leads to the login, and back.
  if (answer.redirected) { location.reload(); return; }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.getElementById(old.id);
    if (!part || isInUse(old) || part.innerHTML === old.innerHTML) continue;
    const places = [...old.querySelectorAll(".gz-scroll")].map((one) => one.scrollLeft);
    old.replaceWith(part);
    part.querySelectorAll(".gz-scroll").forEach((one, n) => { one.scrollLeft = places[n] ?? 0; });
  }
}

// Nobody loses what they are typing, or the button they are about to press.
function isInUse(part) {
  return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
}
