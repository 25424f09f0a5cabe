// The links' section: the question's links, those of a concept that is explored, as a graph and as a list.

import { search } from "./api.js";
import { byId, el, show } from "./dom.js";
import { Graph, capacity } from "./graph.js";
import { failure, notice } from "./states.js";
import { count, listed } from "./words.js";

const LIMIT = 20; // links asked for at once

const keyOf = ({ source, target }) => `${source}:${target}`;

/** What /search said about one text, page after page. */
class Found {
  constructor(text) {
    Object.assign(this, { text, concepts: [], links: new Map(), names: new Map(), total: 0, missing: [] });
  }

  async more(signal) {
    const reply = await search(this.text, { limit: LIMIT, offset: this.links.size }, signal);
    this.concepts = reply.concepts;
    this.total = reply.total;
    this.missing = reply.missing ?? [];
    for (const node of [...reply.concepts.map((each) => ({ rank: 0, ...each })), ...reply.nodes]) this.names.set(node.id, node);
    for (const link of reply.links) this.links.set(keyOf(link), link);
  }
}

/** The section. open(link) shows a link's sentences; go(concept) changes the address; say(text) announces. */
export class Links {
  constructor({ open, go, say }) {
    Object.assign(this, { go, say, section: byId("links"), state: byId("links-state"), list: byId("links-list") });
    this.open = (link, focus) => open({ ...link, source_name: this.#name(link.source), target_name: this.#name(link.target) }, focus);
    const explore = (node) => go(node.name);
    this.graph = new Graph(byId("graph"), { explore, open: (link) => this.open(link, null) });
    this.running = new AbortController();
    this.question = this.explored = null;
    addEventListener("resize", () => {
      if (this.question && this.graph.outgrown()) this.#draw();
    });
  }

  /** Shows the links of a question and, if `concept` is a name, also those of that concept. */
  async show(question, concept) {
    this.running.abort();
    this.running = new AbortController();
    const { signal } = this.running;
    const hadFocus = this.graph.place.contains(document.activeElement);
    this.section.setAttribute("aria-busy", "true");
    try {
      if (this.question?.text !== question) {
        this.#clear();
        const found = new Found(question);
        await found.more(signal);
        this.question = found;
      }
      const explored = concept ? new Found(concept) : null;
      await explored?.more(signal);
      this.explored = explored;
      this.#draw();
      if (explored) {
        this.say(`${concept}: ${count(explored.total, "link")}.`);
        if (hadFocus) this.graph.focus(this.#exploredId());
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.section.hidden = false;
      show(this.state, failure(error, () => this.show(question, concept)));
    } finally {
      if (this.running.signal === signal) this.section.setAttribute("aria-busy", "false");
    }
  }

  /** What is known of the question's links is asked for anew. */
  forget() {
    this.question = null;
  }

  /** Nothing is asked any more, nothing is shown. */
  stop() {
    this.running.abort();
    this.#clear();
  }

  #clear() {
    this.question = this.explored = null;
    this.section.hidden = true;
    this.graph.clear();
    show(this.state);
    show(this.list);
  }

  #name(id) {
    return (this.explored?.names.get(id) ?? this.question.names.get(id))?.name ?? id;
  }

  #exploredId() {
    return this.explored?.concepts[0]?.id ?? null;
  }

  #draw() {
    const shown = this.explored ?? this.question;
    this.section.hidden = false;
    show(this.state, this.#head(shown), this.#missing(shown));
    this.graph.draw(this.#picture());
    this.#drawList(shown);
  }

  #head(shown) {
    if (this.explored) {
      return el("div", { class: "explored" },
        el("p", {}, "Exploring ", el("strong", {}, this.explored.text), `: ${count(shown.total, "link")}.`),
        el("button", { type: "button", class: "back", onclick: () => this.go(null) }, "Back to the question’s links"),
      );
    }
    if (!shown.concepts.length) return el("p", {}, "The question names no known concept, so there are no links to show.");
    const names = listed(shown.concepts.map((each) => each.name));
    const next = shown.total
      ? "Choose a circle to explore it, a line to read its sentences."
      : "No sentence links it to another concept.";
    return el("p", {}, `In the question: ${names}. ${next}`);
  }

  #missing({ missing }) {
    return missing.length ? notice(`Not all shards answered (missing: ${listed(missing)}): some links may be missing.`) : null;
  }

  /** What is drawn: the question's concepts and the explored one first, then whoever has the best links. */
  #picture() {
    const links = [...new Map([...(this.explored?.links ?? []), ...this.question.links]).values()];
    const asked = new Set(this.question.concepts.map((each) => each.id));
    const explored = this.#exploredId();
    const ids = new Set([...asked, ...(explored ? [explored] : []), ...links.flatMap(({ source, target }) => [source, target])]);
    const linked = new Set(links.flatMap(({ source, target }) => [source, target]));
    const drawn = [...ids].filter((id) => linked.has(id)).slice(0, capacity(this.graph.place.clientWidth));
    const nodes = drawn.map((id) => this.explored?.names.get(id) ?? this.question.names.get(id) ?? { id, name: id, rank: 1 });
    return { nodes, links: links.filter(({ source, target }) => drawn.includes(source) && drawn.includes(target)), asked, explored };
  }

  #drawList(shown) {
    const links = [...shown.links.values()];
    const more = el("button", { type: "button", class: "more", onclick: () => this.#more(shown) }, "More links");
    show(this.list,
      el("ul", { class: "links" }, links.map((link) => this.#row(link))),
      links.length < shown.total ? more : null,
    );
  }

  #row(link) {
    const since = link.first_year ? `, since ${link.first_year}` : "";
    return el("li", {}, el("button", { type: "button", onclick: (event) => this.open(link, event.currentTarget) },
      el("span", { class: "ends" }, `${this.#name(link.source)} – ${this.#name(link.target)}`),
      el("span", { class: "weight" }, `${count(link.rank, "sentence")}${since}`),
    ));
  }

  async #more(shown) {
    const before = shown.links.size;
    const { signal } = this.running;
    try {
      await shown.more(signal);
    } catch (error) {
      if (error.name !== "AbortError") show(this.state, failure(error, () => this.#more(shown)));
      return;
    }
    if (shown !== (this.explored ?? this.question)) return;
    this.#draw();
    this.say(`${count(shown.links.size - before, "more link")}.`);
    this.list.querySelectorAll("li button")[before]?.focus();
  }
}
