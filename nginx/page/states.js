// What is shown when there is no result to show: waiting, slow, failed.

import { el } from "./dom.js";

/** Grey bars in the place of the answers. */
export function skeleton() {
  const bars = ["short", "long", "middle"].map((length) => el("span", { class: `bar ${length}` }));
  return el("div", { class: "skeleton", "aria-hidden": "true" }, bars);
}

/** A sentence, and a button under it if `action` is given: {label, run}. */
export function notice(text, action = null) {
  return el("div", { class: "notice" }, el("p", {}, text), action && el("button", { type: "button", onclick: action.run }, action.label));
}

/** A failure: what the server said, its status, and a button that tries again, after Retry-After if it was sent. */
export function failure(error, retry) {
  const button = el("button", { type: "button", class: "retry", onclick: retry }, "Try again");
  if (error.retryAfterS) countDown(button, error.retryAfterS);
  return el("div", { class: "notice error" },
    el("p", { class: "title" }, error.status ? `${error.title} (${error.status})` : error.title),
    el("p", {}, error.detail),
    button,
  );
}

function countDown(button, seconds) {
  button.disabled = seconds > 0;
  button.textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
  if (seconds > 0) setTimeout(() => countDown(button, seconds - 1), 1000);
}
