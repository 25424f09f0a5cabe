// The panel of one link: the sentences that carry it, page by page. A modal dialog, so Escape closes it.

import { edge } from "./api.js";
import { el, show } from "./dom.js";
import { readingPlace } from "./reading.js";
import { failure, notice } from "./states.js";
import { count, listed } from "./words.js";

const LIMIT = 10; // sentences asked for at once

function sentence(each) {
  return el("li", {},
    el("blockquote", {}, each.sentence),
    el("p", { class: "origin" },
      el("cite", {}, el("a", { href: readingPlace(each) }, each.title || each.article || "Untitled")),
      each.year ? el("span", { class: "year" }, String(each.year)) : null,
      el("span", { class: "shard technical" }, `shard ${each.shard}`),
    ),
  );
}

function summary(reply) {
  const years = Object.entries(reply.years ?? {}).filter(([year]) => year);
  return [
    el("p", {}, `${count(reply.total, "sentence")} with both${reply.first_year ? `, the first from ${reply.first_year}` : ""}.`),
    years.length > 1 ? el("ul", { class: "years", "aria-label": "Sentences by year" },
      years.map(([year, sentences]) => el("li", {}, `${year}: ${sentences}`))) : null,
    reply.missing?.length ? notice(`Not all shards answered (missing: ${listed(reply.missing)}).`) : null,
  ];
}

/** The <dialog>. say(text) announces. */
export class Panel {
  constructor(dialog, say) {
    Object.assign(this, { dialog, say, running: new AbortController() });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      this.running.abort();
      // The browser gives the focus back to what had it; but not every one focuses a button that is clicked.
      if (document.activeElement === document.body) this.from?.focus();
    });
  }

  /** link: {source, target, source_name, target_name}. from: what gets the focus back. */
  open(link, from) {
    this.running.abort();
    this.running = new AbortController();
    this.from = from ?? document.activeElement;
    this.link = link;
    this.about = el("div", { class: "about" });
    this.list = el("ul", { class: "sentences" });
    this.foot = el("div", { class: "foot" });
    show(this.dialog, el("div", { class: "inner" },
      el("div", { class: "head" },
        el("h2", { id: "panel-title", tabindex: "-1" }, `${link.source_name} – ${link.target_name}`),
        el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => this.dialog.close() }, "×"),
      ),
      this.about, this.list, this.foot,
    ));
    this.dialog.showModal();
    this.#load(this.running.signal);
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  async #load(signal) {
    const before = this.list.children.length;
    this.dialog.setAttribute("aria-busy", "true");
    show(this.foot, el("p", { class: "waiting" }, "Reading the sentences…"));
    try {
      const reply = await edge(this.link, { limit: LIMIT, offset: before }, signal);
      show(this.about, summary(reply));
      this.list.append(...reply.sentences.map(sentence));
      const shown = this.list.children.length;
      const more = el("button", { type: "button", class: "more", onclick: () => this.#load(signal) }, `More (${shown} of ${reply.total})`);
      show(this.foot, shown < reply.total && reply.sentences.length ? more : null);
      this.say(`${shown} of ${count(reply.total, "sentence")}.`);
      if (before) this.#focusOn(before);
    } catch (error) {
      if (error.name === "AbortError") return;
      show(this.foot, failure(error, () => this.#load(signal)));
    } finally {
      if (!signal.aborted) this.dialog.setAttribute("aria-busy", "false");
    }
  }

  #focusOn(index) {
    const item = this.list.children[index];
    item?.setAttribute("tabindex", "-1");
    item?.focus();
  }
}
