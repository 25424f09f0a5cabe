// The last questions, kept in the browser; kept for this visit only where storage is not to be had.

import { el, show } from "./dom.js";

const KEY = "keymiss.recent";
const MOST = 10;

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((each) => typeof each === "string").slice(0, MOST) : [];
  } catch {
    return []; // no storage, or something else under our name
  }
}

/** A list of questions in `place`; `pick(question)` is called for the one that is clicked. */
export class Recent {
  constructor(place, pick) {
    this.place = place;
    this.pick = pick;
    this.questions = read();
  }

  add(question) {
    this.#keep([question, ...this.questions.filter((each) => each !== question)].slice(0, MOST));
  }

  #keep(questions) {
    this.questions = questions;
    try {
      localStorage.setItem(KEY, JSON.stringify(questions));
    } catch {
      // no storage: the list lives as long as the page
    }
  }

  #remove(question) {
    const at = this.questions.indexOf(question);
    this.#keep(this.questions.filter((each) => each !== question));
    this.draw(true);
    const next = this.place.querySelectorAll(".remove")[Math.min(at, this.questions.length - 1)];
    (next ?? document.getElementById("question")).focus();
  }

  #row(question) {
    return el("li", {},
      el("button", { type: "button", class: "pick", onclick: () => this.pick(question) }, question),
      el("button", {
        type: "button", class: "remove", "aria-label": `Remove: ${question}`, onclick: () => this.#remove(question),
      }, "×"),
    );
  }

  /** open: whether the list is unfolded. */
  draw(open) {
    if (!this.questions.length) return show(this.place);
    return show(this.place, el("details", { class: "recent", open },
      el("summary", {}, "Recent questions"),
      el("ul", {}, this.questions.map((question) => this.#row(question))),
    ));
  }
}
