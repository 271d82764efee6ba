// Menus of buttons close as menus do: by Escape, and by a press elsewhere. What was typed in them stays.

const OPEN = ".deeds details[open]";

document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && (event.target.closest(OPEN) ?? document.querySelector(OPEN));
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

document.addEventListener("pointerdown", (event) => {
  for (const menu of document.querySelectorAll(OPEN)) if (!menu.contains(event.target)) menu.open = false;
});
