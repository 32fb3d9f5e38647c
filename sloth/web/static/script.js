// What pages do beyond links and forms; without it, all of them work.
"use strict";

// Times are sent as UTC: show the local one on hover.
function showLocalTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (!isNaN(at)) time.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}
showLocalTimes(document);

// Buttons that copy a command; without the script, or without HTTPS off this machine, there are none.
if (navigator.clipboard) for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(() => { button.textContent = "Copied"; }, () => {});
  });
}

// A diff is fetched when it is opened for the first time; until then, and if that fails, there is a link.
document.addEventListener("toggle", async (event) => {
  const details = event.target;
  if (!(details instanceof HTMLElement) || !details.matches("details.lazy[data-from]") || !details.open) return;
  const from = details.dataset.from;
  delete details.dataset.from;
  const answer = await fetch(from).catch(() => null);
  if (!answer || !answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const diff = page.getElementById("diff");
  if (!diff) return;
  diff.removeAttribute("id");
  const link = details.querySelector("p");
  details.insertBefore(document.importNode(diff, true), link);
}, true);

// "/" goes to the search field, unless somebody types.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  const field = document.querySelector(".find input");
  if (field) { event.preventDefault(); field.focus(); }
});

// A run that goes on: its part of the page comes anew with each event; at its end, the whole page does.
const live = document.querySelector("[data-live]");
if (live && window.EventSource) {
  const state = document.getElementById("live-state");
  const events = new EventSource(live.dataset.live);
  events.addEventListener("open", () => { state.textContent = "following"; });
  events.addEventListener("update", (event) => { live.innerHTML = event.data; showLocalTimes(live); });
  events.addEventListener("end", () => {
    events.close();
    state.textContent = "ended";
    fetch(location.href, { method: "HEAD" }).then((answer) => { if (answer.ok) location.reload(); }, () => {});
  });
  events.addEventListener("error", () => {
    state.textContent = events.readyState === EventSource.CLOSED ? "not followed: reload the page" : "the connection is lost; trying again";
  });
}
