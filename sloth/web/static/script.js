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

// A button that copies a command.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  const done = () => { button.textContent = "Copied"; };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => {});
});

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
