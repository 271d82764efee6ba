// The overview: how many records are written a second, from one reading of the page to the next.

const KEPT_MS = 12000;

// Readings of the last seconds, oldest first.
const readings = [];

function show() {
  const figure = document.getElementById("records-rate");
  const reading = { at: Number(figure.dataset.at), written: Number(figure.dataset.written) };
  if (reading.at !== readings.at(-1)?.at) readings.push(reading);
  while (readings.length > 2 && reading.at - readings[1].at >= KEPT_MS) readings.shift();
  const first = readings[0];
  if (reading.at <= first.at) return;
  const rate = Math.max(reading.written - first.written, 0) / (reading.at - first.at) * 1000;
  figure.textContent = rate.toLocaleString("en", { maximumFractionDigits: rate < 10 ? 1 : 0 });
}

document.addEventListener("refreshed", show);
show();
